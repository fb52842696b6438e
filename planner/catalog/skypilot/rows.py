"""Rows of SkyPilot's catalog files, whatever the provider, with the units of its columns repaired.

The files are ``<provider>/vms.csv`` (github.com/skypilot-org/skypilot-catalog, ``catalogs/v*/``). Their
columns differ by provider, in order and in number, so they are read by name. What each provider gives under
those names is known from the scripts that make the files (github.com/skypilot-org/skypilot,
``sky/catalog/data_fetchers/fetch_<provider>.py``) and from the files themselves:

* ``GpuInfo`` is a Python literal with the memory of one GPU in MiB. RunPod's was in GB (80 for an A100)
  until its script learnt to multiply; Vast's is that of all GPUs together; Lambda's
  ``TotalGpuMemoryInMiB`` is that of one; Azure's is only the GPU's name; Google's has no name and no count;
  that of AWS's g6f, which has part of a GPU, is the part's.
* ``MemoryGiB`` is the host's, but RunPod's is, for some, the GPU's (A40, H100 NVL, B200 in its script, and
  all of them in its list of January 2024).
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from planner.errors import CatalogError

NEEDED = ("InstanceType", "Price", "Region")
MIB_PER_GIB = 1024
_GB_AT_MOST = 1024
"""No GPU has a terabyte, none has less than a GiB: below this a figure "in MiB" is in GB."""
_MEMORY_IN_WORDS = re.compile(r"(\d+)\s*Gi?B", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or Google's host and GPU rows put together; None where a cell is blank or no number.

    ``gpu_gib`` is the memory of one GPU, ``gpu_words`` all that names it, ``lines`` where it was read.
    """

    instance_type: str
    accelerator: str
    count: float | None
    vcpus: float | None
    memory_gib: float | None
    gpu_gib: float | None
    gpu_words: str
    price: float | None
    spot_price: float | None
    region: str
    zone: str
    arch: str
    lines: tuple[int, ...]
    joined: bool = False


def read_rows(file: Path, provider: str) -> Iterator[Row]:
    """The rows of one file; CatalogError where it has not the columns or is no CSV in UTF-8."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise CatalogError(
                    f"{file}: column {missing[0]} is missing; expected one of SkyPilot's catalogs (vms.csv)"
                )
            for cells in reader:
                yield _row(cells, provider, reader.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise CatalogError(f"{file}: not a CSV file in UTF-8: {error}") from None
    except OSError as error:
        raise CatalogError(f"{file}: cannot be read: {error.strerror}") from None


def _row(cells: Mapping[str, str | None], provider: str, line: int) -> Row:
    def text(name: str) -> str:
        return (cells.get(name) or "").strip()

    accelerator, count = text("AcceleratorName"), number(text("AcceleratorCount"))
    named, gib = gpu_info(text("GpuInfo"))
    if gib is not None and count and (provider == "vast" or count < 1):
        gib /= count
    return Row(
        instance_type=text("InstanceType"),
        accelerator=accelerator,
        count=count,
        vcpus=number(text("vCPUs")),
        memory_gib=number(text("MemoryGiB")),
        gpu_gib=gib,
        gpu_words=f"{accelerator} {named} {text('InstanceType')}",
        price=number(text("Price")),
        spot_price=number(text("SpotPrice")),
        region=text("Region"),
        zone=text("AvailabilityZone").replace(" ", "_"),
        arch=text("Arch"),
        lines=(line,),
    )


def number(text: str) -> float | None:
    """None for a blank cell, and for pandas' ``nan``."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 else None


@lru_cache(maxsize=4096)
def gpu_info(text: str) -> tuple[str, float | None]:
    """Name and memory in GiB of the first GPU of a ``GpuInfo`` cell; ``("", None)`` where it says neither."""
    try:
        info = ast.literal_eval(text) if text.startswith("{") else None
    except (ValueError, SyntaxError):
        info = None
    gpus = info.get("Gpus") if isinstance(info, dict) else None
    if not isinstance(gpus, list) or not gpus or not isinstance(gpus[0], dict):
        found = _MEMORY_IN_WORDS.search(text) if not text.startswith("{") else None
        return ("" if text.startswith("{") else text), float(found.group(1)) if found else None
    memory = gpus[0].get("MemoryInfo")
    size = memory.get("SizeInMiB") if isinstance(memory, dict) else None
    name = str(gpus[0].get("Name") or "")
    if not isinstance(size, int | float) or size <= 0:
        return name, None
    return name, float(size) if size < _GB_AT_MOST else size / MIB_PER_GIB
