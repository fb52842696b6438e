"""Google's rows put together: SkyPilot's catalog prices the machine and its GPUs in rows of their own.

A machine's row has no accelerator, a GPU's row no instance type (``fetch_gcp.py``). Which GPUs an
accelerator-optimized machine has is in its name or in Google's table
(cloud.google.com/compute/docs/accelerator-optimized-machines); N1 takes T4 and V100 by choice. The sum leaves
out local SSD, which SkyPilot does not price.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from planner.catalog.skypilot.rows import Row

_BY_NAME = tuple(
    (re.compile(shape), gpu)
    for shape, gpu in (
        (r"a2-(?:highgpu|megagpu)-(\d+)g", "A100"),
        (r"a2-ultragpu-(\d+)g", "A100-80GB"),
        (r"a3-(?:highgpu|edgegpu)-(\d+)g(?:-nolssd)?", "H100"),
        (r"a3-megagpu-(\d+)g(?:-nolssd)?", "H100-MEGA"),
        (r"a3-ultragpu-(\d+)g(?:-nolssd)?", "H200"),
        (r"a4-highgpu-(\d+)g(?:-nolssd)?", "B200"),
    )
)
_G2 = {4: 1, 8: 1, 12: 1, 16: 1, 32: 1, 24: 2, 48: 4, 96: 8}
"""vCPUs of a g2-standard machine to its L4s."""
_ON_N1 = {"T4": "T4", "V100": "V100-16GB"}
"""What can be attached to an N1 and is worth it, and what the catalog calls it in the type's name."""
_N1_VCPUS_PER_GPU = (4, 8)
"""Within Google's limits: up to 12 for each V100, 24 for each T4."""

Place = tuple[str, str]


def join(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with hosts and their GPUs added up; GPU rows that found no host come out as they are.

    A host that only exists with GPUs is left out where their price is missing, with ``vcpus`` None, so that
    it is not taken for a CPU instance.
    """
    hosts: list[Row] = []
    gpus: dict[tuple[str, float, Place], Row] = {}
    for row in rows:
        if row.instance_type:
            hosts.append(row)
        elif row.accelerator and row.count is not None:
            key = (row.accelerator, row.count, (row.region, row.zone))
            if key in gpus:
                yield row
            gpus.setdefault(key, row)
        else:
            yield row
    used: set[int] = set()
    for host in hosts:
        wanted = [] if host.accelerator else list(_gpus_of(host))
        found = [(name, gpus[key]) for name, key in wanted if key in gpus]
        used.update(line for _, gpu in found for line in gpu.lines)
        yield from (_sum(host, name, gpu) for name, gpu in found)
        if not wanted or host.instance_type.startswith("n1-"):
            yield host
        elif not found:
            yield replace(host, vcpus=None)
    yield from (gpu for gpu in gpus.values() if not used.intersection(gpu.lines))


def _gpus_of(host: Row) -> Iterator[tuple[str, tuple[str, float, Place]]]:
    """The name of the machine with its GPUs, and the key of the row that prices them."""
    place, name = (host.region, host.zone), host.instance_type
    for shape, gpu in _BY_NAME:
        found = shape.fullmatch(name)
        if found:
            yield name, (gpu, float(found.group(1)), place)
    series, _, vcpus = name.rpartition("-")
    if series == "g2-standard" and vcpus.isdigit() and int(vcpus) in _G2:
        yield name, ("L4", float(_G2[int(vcpus)]), place)
    if series == "n1-standard" and vcpus.isdigit():
        for gpu, called in _ON_N1.items():
            for each in _N1_VCPUS_PER_GPU:
                count, rest = divmod(int(vcpus), each)
                if count in (1, 2, 4, 8) and not rest:
                    yield f"{name}+{count}x{called}", (gpu, float(count), place)


def _sum(host: Row, name: str, gpu: Row) -> Row:
    return replace(
        host,
        instance_type=name,
        accelerator=gpu.accelerator,
        count=gpu.count,
        gpu_gib=gpu.gpu_gib,
        gpu_words=f"{gpu.accelerator} {name}",
        price=_added(host.price, gpu.price),
        spot_price=_added(host.spot_price, gpu.spot_price),
        lines=host.lines + gpu.lines,
        joined=True,
    )


def _added(host: float | None, gpu: float | None) -> float | None:
    """None, or 0, where one of them is: half a price is none."""
    if host is None or gpu is None:
        return None
    return host + gpu if host > 0 and gpu > 0 else 0.0
