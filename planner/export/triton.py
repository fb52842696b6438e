"""A plan's engines as model repositories of Triton, one for each server.

    <server>/<model>/config.pbtxt
    <server>/<model>/1/model.onnx, model.plan

Batching is what the capacity was computed for: whatever waits, up to the largest batch, goes to an instance
that idles, at once or after the queue delay. So the largest batch is the only preferred size: with more of
them Triton would cut what waits down to the next smaller one.
Source: https://github.com/triton-inference-server/core, src/dynamic_batch_scheduler.cc (GetDynamicBatch), and
the READMEs of onnxruntime_backend, openvino_backend, tensorrt_backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.errors import InputError
from planner.export.files import File
from planner.export.pbtxt import Word, text_map, to_text
from planner.export.servers import Served, Server
from planner.export.signature import Shaped, Signature, signature_of
from planner.export.source import Origin, Source
from planner.report import Engine, engine_of

ONNX, PLAN = "model.onnx", "model.plan"
_BACKENDS = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-cuda": "onnxruntime",
    "onnxruntime-tensorrt": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
}
_WHY_NOT = {
    "tensorrt-rtx": "Triton has no backend for TensorRT-RTX; plan with tensorrt or an onnxruntime backend",
    "openvino-throughput": "Triton's OpenVINO backend splits no batch into streams; plan with openvino",
    "openvino-gpu": "Triton's OpenVINO backend runs on CPUs only; plan with openvino",
}


@dataclass(frozen=True, slots=True)
class Repositories:
    """``notes``: what is left to do, or to know, before they serve."""

    files: tuple[File, ...]
    notes: tuple[str, ...]


def repositories(
    source: Source, servers: Sequence[Server], dimensions: Mapping[str, int], below: str = ""
) -> Repositories:
    """A repository for each server, in a folder of its name ``below`` that of the export.

    ``dimensions``: sizes to warm up with, where plan.yaml is not there to tell them.

    Raises InputError where Triton cannot run what the plan does, and the errors of reading engines.
    """
    engines = source.engines()
    files: list[File] = []
    # By engine and workload: many servers run the same, and models are large.
    signatures: dict[tuple[Engine, str], Signature] = {}
    notes: dict[str, None] = {}
    for server in servers:
        for served in server.served:
            engine, workload = _engine_of(served, engines), served.candidate.workload
            if (engine, workload) not in signatures:
                bound = source.dimensions(workload, engine.variant)
                signatures[engine, workload] = signature_of(engine, {**bound, **dimensions})
            signature = signatures[engine, workload]
            folder = f"{below}{server.name}/{served.model}"
            files.append(File(f"{folder}/config.pbtxt", config(served, engine, signature, source.origin)))
            files += _model_files(folder, engine, source)
            notes |= dict.fromkeys(_notes(served, engine, signature))
    dynamic = {name for signature in signatures.values() for name in signature.dynamic}
    for name in dimensions:
        if name not in dynamic:
            known = ", ".join(sorted(dynamic)) or "none"
            raise InputError(
                f"--dimension {name}: the plan's models have no such dynamic dimension, but {known}"
            )
    return Repositories(tuple(files), tuple(notes))


def config(served: Served, engine: Engine, signature: Signature, origin: Origin) -> str:
    """The text of config.pbtxt. Raises InputError where Triton cannot batch as the plan does."""
    candidate = served.candidate
    most = candidate.max_batch_size
    if most > 1 and not signature.batched:
        raise InputError(
            f"{served.model}: it is planned in batches of {most}, but the first axis of its inputs and "
            "outputs is not dynamic, and Triton batches along that; export the model with the batch first"
        )
    message: dict[str, object] = {
        "name": served.model,
        "backend": _BACKENDS[candidate.backend],
        "default_model_filename": PLAN if candidate.backend == "tensorrt" else ONNX,
        "max_batch_size": most if signature.batched else 0,
        "input": [_tensor(shaped) for shaped in signature.inputs],
        "output": [_tensor(shaped) for shaped in signature.outputs],
    }
    if signature.batched:
        message["dynamic_batching"] = {
            "preferred_batch_size": [most],
            "max_queue_delay_microseconds": round(1000 * candidate.queue_delay_ms),
        }
    message["instance_group"] = [_instance_group(served, signature)]
    message |= _settings(served)
    message["model_warmup"] = list(_warmups(served, signature))
    about = (
        origin.line,
        f"{served.replicas} × {candidate.variant} of {candidate.workload} with {candidate.backend} on "
        f"{candidate.device}; engine {engine.sha256[:12]}, {engine.status}.",
    )
    kept = {name: value for name, value in message.items() if value not in ([], {})}
    return "".join(f"# {line}\n" for line in about) + to_text(kept)


def _tensor(shaped: Shaped) -> dict[str, object]:
    tensor: dict[str, object] = {"name": shaped.name, "data_type": Word(shaped.triton_type)}
    if shaped.dims:
        return tensor | {"dims": list(shaped.dims)}
    # Nothing but the batch axis: Triton has no empty dims, and a way around it.
    return tensor | {"dims": [1], "reshape": {"shape": []}}


def _instance_group(served: Served, signature: Signature) -> dict[str, object]:
    if not served.gpus:
        return {"count": served.instances, "kind": Word("KIND_CPU")}
    group: dict[str, object] = {
        # On each of the GPUs.
        "count": served.candidate.instances,
        "kind": Word("KIND_GPU"),
        "gpus": list(served.gpus),
    }
    profiles = _profiles(served, signature)
    return group | ({"profile": profiles} if len(profiles) > 1 else {})


def _profiles(served: Served, signature: Signature) -> list[str]:
    """The engine's optimization profiles that batches up to the planned one need."""
    sizes = signature.batch_sizes
    below = sum(size < served.candidate.max_batch_size for size in sizes)
    return [str(index) for index in range(min(below + 1, len(sizes)))]


def _settings(served: Served) -> dict[str, object]:
    candidate = served.candidate
    threads = max(candidate.threads // candidate.instances, 1)
    if candidate.backend == "onnxruntime":
        return {"parameters": _parameters(intra_op_thread_count=threads, inter_op_thread_count=1)}
    if candidate.backend == "openvino":
        # One compiled model for all instances: each runs in a stream of its own.
        return {
            "parameters": _parameters(
                PERFORMANCE_HINT="LATENCY",
                NUM_STREAMS=served.instances,
                INFERENCE_NUM_THREADS=served.instances * threads,
            )
        }
    if candidate.backend == "onnxruntime-tensorrt":
        accelerators = {"gpu_execution_accelerator": [{"name": "tensorrt"}]}
        return {"optimization": {"execution_accelerators": accelerators}}
    return {}


def _parameters(**values: str | int) -> list[dict[str, object]]:
    return text_map({key: {"string_value": str(value)} for key, value in values.items()})


def _warmups(served: Served, signature: Signature) -> Iterable[dict[str, object]]:
    """One inference of each measured batch size, on zeros: an index of zero is always in range."""
    if any(shaped.sizes is None for shaped in signature.inputs):
        return
    for size in sorted({profile.batch_size for profile in served.candidate.profiles}):
        inputs = {
            shaped.name: {
                "data_type": Word(shaped.triton_type),
                "dims": list(shaped.sizes or (1,)),
                "zero_data": True,
            }
            for shaped in signature.inputs
        }
        yield {"name": f"batch-{size}", "batch_size": size, "inputs": text_map(inputs)}


def _model_files(folder: str, engine: Engine, source: Source) -> Iterable[File]:
    """The engine; what is yet to be built leaves its place free, beside the ONNX file and the command."""
    if engine.status == "to-build":
        yield File(f"{folder}/1/{PLAN}.missing", f"{_to_build(engine)}\n{source.origin.line}\n")
        yield from _onnx_files(f"{folder}/build", engine, source.engines_folder)
    elif engine.path.suffix == ".onnx":
        yield from _onnx_files(f"{folder}/1", engine, source.engines_folder)
    else:
        yield File(f"{folder}/1/{PLAN}", engine.path)


def _onnx_files(folder: str, engine: Engine, engines: Path) -> Iterable[File]:
    """The ONNX file under Triton's name, its external data where it looks for them."""
    for name, _ in engine.files:
        path = engines / name
        called = ONNX if path == engine.path else path.relative_to(engine.path.parent).as_posix()
        yield File(f"{folder}/{called}", path)


def _to_build(engine: Engine) -> str:
    return (
        f"{PLAN} belongs here. It is yet to be built, on a {engine.device}, with the TensorRT of the Triton "
        f"image, in ../build:\n\n    {_build_command(engine)}\n    mv model.engine ../1/{PLAN}\n"
    )


def _build_command(engine: Engine) -> str:
    return engine.build.replace(f"--onnx={engine.path.name}", f"--onnx={ONNX}").replace(
        f"--saveEngine={engine.path.stem}.engine", "--saveEngine=model.engine"
    )


def _engine_of(served: Served, engines: Sequence[Engine]) -> Engine:
    candidate = served.candidate
    if candidate.backend not in _BACKENDS:
        why = _WHY_NOT.get(candidate.backend, "Triton has no such backend")
        raise InputError(f"{candidate.workload} runs with {candidate.backend} on {candidate.device}: {why}")
    engine = engine_of(engines, candidate)
    if engine is None:
        raise InputError(
            f"{candidate.workload}: the plan has no engine of {candidate.variant} for {candidate.device}, "
            "its latencies were imported; Triton needs one, so plan with the model itself"
        )
    return engine


def _notes(served: Served, engine: Engine, signature: Signature) -> Iterable[str]:
    candidate = served.candidate
    if engine.status == "to-build":
        yield (
            f"{served.model} on {candidate.device}: {PLAN} is yet to be built there; the command is in its "
            f"folder, 1/{PLAN}.missing."
        )
    if engine.status == "built-ahead":
        yield f"{served.model} on {candidate.device}: the engine was built ahead of time and never measured."
    if signature.built_with:
        yield f"TensorRT {signature.built_with} built engines, and alone loads them: choose an image with it."
    if candidate.backend == "openvino":
        yield (
            "OpenVINO: Triton has no setting for the precision; on CPUs with bfloat16 it computes float32 "
            "models in that, which was not judged."
        )
    if any(shaped.sizes is None for shaped in signature.inputs):
        unknown = [shaped.name for shaped in signature.inputs if shaped.sizes is None]
        yield (
            f"{served.model}: no warm-up, the size of {', '.join(unknown)} varies; give it with --dimension "
            "NAME=SIZE."
        )
