"""What is known of an engine, kept as JSON beside it.

Source of the rule: a TensorRT engine fits the exact library, device and driver that it was built with, and
two builds are neither byte-identical nor equally fast, so the engine that was measured is the one to ship.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from planner.backends.tensorrt.files import replace_file, sha256
from planner.backends.tensorrt.order import BuildOptions, Order
from planner.backends.tensorrt.place import Place
from planner.domain.model import BoundInput
from planner.errors import BackendError

# 1: first format
RECORD_SCHEMA = 1

Status = Literal["built", "built-ahead", "measured"]


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """``status``: ``built`` on its device, ``measured`` there, or ``built-ahead`` (unmeasured, no device)."""

    place: Place
    order: Order
    outputs: tuple[str, ...]
    """Names, in the model's order."""
    sha256: str
    size_bytes: int
    status: Status
    built_at: str
    """ISO 8601, UTC."""

    def as_measured(self) -> EngineRecord:
        """The same engine, measured. ValueError for one built ahead: it has no device to be measured on."""
        if self.status == "built-ahead":
            raise ValueError(
                "an engine built ahead of time is unmeasured; build it on its device to measure it"
            )
        return replace(self, status="measured")


def reusable(record: EngineRecord, order: Order, here: Place) -> bool:
    """Whether the engine is the very one that building ``order`` ``here`` stands for: all fields agree."""
    return record.order == order and record.place == here


def key(order: Order, place: Place) -> str:
    """Short digest of all that makes two engines different."""
    text = json.dumps([asdict(order), asdict(place)], sort_keys=True)
    return sha256(text.encode())[:16]


def record_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def write_record(engine: Path, record: EngineRecord) -> None:
    """Beside ``engine``, atomically."""
    replace_file(record_path(engine), (json.dumps(_to_json(record), indent=2) + "\n").encode())


def read_record(engine: Path) -> EngineRecord | None:
    """None where there is none. Raises BackendError where it cannot be read."""
    path = record_path(engine)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        if schema == RECORD_SCHEMA:
            return _from_json(document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{path}: not an engine's record ({error!r}); delete it and build again") from None
    raise BackendError(f"{path}: record schema {schema}, this planner reads {RECORD_SCHEMA}; build again")


def _to_json(record: EngineRecord) -> dict[str, Any]:
    place, order, options = record.place, record.order, record.order.options
    return {
        "schema": RECORD_SCHEMA,
        "status": record.status,
        "sha256": record.sha256,
        "size_bytes": record.size_bytes,
        "built_at": record.built_at,
        "place": {
            "backend": place.backend,
            "library_version": place.library_version,
            "device": place.device,
            "compute_capability": place.compute_capability,
            "driver": place.driver,
            "cuda": place.cuda,
        },
        "onnx_sha256": order.onnx_sha256,
        "inputs": [
            {"name": i.name, "dtype": i.dtype, "shape": list(i.shape), "batch_axis": i.batch_axis}
            for i in order.inputs
        ],
        "outputs": list(record.outputs),
        "batch_sizes": list(order.batch_sizes),
        "options": {
            "workspace_bytes": options.workspace_bytes,
            "builder_level": options.builder_level,
            "sparse_weights": options.sparse_weights,
            "capabilities": list(options.capabilities),
        },
    }


def _from_json(document: dict[str, Any]) -> EngineRecord:
    if document["status"] not in ("built", "built-ahead", "measured"):
        raise ValueError(f"unknown status {document['status']!r}")
    options = document["options"]
    return EngineRecord(
        place=Place(**document["place"]),
        order=Order(
            onnx_sha256=document["onnx_sha256"],
            inputs=tuple(
                BoundInput(i["name"], i["dtype"], tuple(i["shape"]), i["batch_axis"])
                for i in document["inputs"]
            ),
            batch_sizes=tuple(document["batch_sizes"]),
            options=BuildOptions(**{**options, "capabilities": tuple(options["capabilities"])}),
        ),
        outputs=tuple(document["outputs"]),
        sha256=document["sha256"],
        size_bytes=document["size_bytes"],
        status=document["status"],
        built_at=document["built_at"],
    )
