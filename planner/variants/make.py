"""A recipe applied to a model, checked, and kept by content."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime

from planner.domain.model import Model, Tensor
from planner.domain.variant import Variant
from planner.errors import PlannerError, VariantError
from planner.variants.context import Array, Context, Recipe, random_samples, single_feeds
from planner.variants.emulation import EVALUATION_FILE, emulated
from planner.variants.finite import first_not_finite, is_finite
from planner.variants.int8 import saturates
from planner.variants.model import digest, external_locations, one_line, read_model
from planner.variants.recipes import recipe
from planner.variants.session import load_session, quiet

# 1: first
VARIANT_SCHEMA = 1
# Raise when a recipe changes what it makes, so that older results are not reused.
# 6: pruning keeps external data external, and sums in another order where calibration rows are few
# 5: external data stay external
# 4: pruning tells layers apart that share only a small vector, and leaves padding out of its calibration
# 3: layers that fall back, methods and half precision for 8 bits on TensorRT
# 2: int8 chosen by measured error, bf16, fp8, int4, sparsity, pruning and low rank (1: the first)
_RECIPES_REVISION = 6
# Of the calibration data, and random ones where there are none.
_CHECKED_SAMPLES, _RANDOM_SAMPLES = 256, 16
_MODEL, _RECORD = "model.onnx", "variant.json"


def make_variant(model: Model, recipe_name: str, context: Context, folder: Path) -> Variant:
    """``folder/<recipe>/model.onnx``, made and checked, or reused where the same was made before.

    The same means: model, recipe, library versions, calibration samples, judge and tolerated drop, inputs,
    seed and kind of CPU. Beside it lies ``evaluation.onnx`` where ONNX Runtime's CPU kernels cannot run it.
    The result appears whole or not at all. Raises SpecError for an unknown recipe and VariantError where
    it could not be made, or where what it made cannot be loaded, has other inputs or outputs than the
    model, or holds a tensor that is not finite on the calibration samples.
    """
    chosen = recipe(recipe_name)
    final = folder / recipe_name
    key = _key(model, chosen, context)
    if kept := _kept(final, key, model, recipe_name):
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        notes = _apply(chosen, model, made / _MODEL, context)
        _check(chosen, model, made / _MODEL, context)
        sha256, size_bytes = digest(made / _MODEL, external_locations(made / _MODEL))
        record = {"key": key, "sha256": sha256, "size_bytes": size_bytes, "notes": list(notes)}
        (made / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        if final.exists():
            final.rename(Path(scratch) / "old")
        made.rename(final)
    return Variant(recipe_name, model.sha256, final / _MODEL, sha256, size_bytes, notes)


def _apply(chosen: Recipe, model: Model, target: Path, context: Context) -> tuple[str, ...]:
    if chosen.needs_calibration and not context.calibration:
        raise VariantError(f"{chosen.name}: needs calibration samples; name them in the spec")
    try:
        return chosen.apply(model.path, target, context)
    except PlannerError:
        raise
    except Exception as error:  # whatever a quantizer raises is one more reason for a rejection
        raise VariantError(f"{chosen.name}: failed on {model.path.name}: {_describe(error)}") from error


def _describe(error: Exception, path: Path | None = None) -> str:
    """``path``, temporary, says nothing to whoever reads this."""
    text = str(error).replace(str(path), "it") if path else error
    return f"{type(error).__name__}: {one_line(text)}"


def _check(chosen: Recipe, model: Model, path: Path, context: Context) -> None:
    name = chosen.name
    try:
        made = read_model(path)
    except PlannerError as error:
        raise VariantError(
            f"{name}: made an invalid model: {str(error).removeprefix(f'{path}: ')}"
        ) from error
    _same_tensors(name, "input", model.inputs, made.inputs)
    _same_tensors(name, "output", model.outputs, made.outputs)
    samples = context.calibration or random_samples(context.inputs, _RANDOM_SAMPLES, context.seed)
    feeds = islice(single_feeds(context.inputs, samples), _CHECKED_SAMPLES)
    evaluation = path.with_name(EVALUATION_FILE)
    runnable = evaluation if emulated(path, evaluation) else path
    _run(chosen, runnable, [output.name for output in model.outputs], feeds)


def _run(chosen: Recipe, path: Path, outputs: list[str], feeds: Iterable[dict[str, Array]]) -> None:
    doing = "load"
    try:
        with quiet():
            session = load_session(path, optimized=not chosen.evaluate_unoptimized)
        doing = "run"
        broken = _first_broken(session, outputs, feeds)
    except Exception as error:
        raise VariantError(
            f"{chosen.name}: ONNX Runtime does not {doing} what was made: {_describe(error, path)}"
        ) from error
    if broken is not None:
        output, feed = broken
        first = first_not_finite(path, feed)
        where = f", from tensor {first} on" if first and first != output else ""
        raise VariantError(f"{chosen.name}: output {output} is not finite (NaN or infinity){where}")


def _first_broken(
    session: Any, outputs: list[str], feeds: Iterable[dict[str, Array]]
) -> tuple[str, dict[str, Array]] | None:
    """An output that is not finite, and the feed that it comes from."""
    for feed in feeds:
        for output, value in zip(outputs, session.run(outputs, feed), strict=True):
            if not is_finite(value):
                return output, feed
    return None


def _same_tensors(name: str, kind: str, wanted: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> None:
    if [t.name for t in wanted] != [t.name for t in made]:
        raise VariantError(
            f"{name}: the model's {kind}s changed to {', '.join(t.name for t in made) or 'none'}"
        )
    for before, after in zip(wanted, made, strict=True):
        if before != after:
            raise VariantError(
                f"{name}: {kind} {before.name} changed from {before.dtype} {list(before.shape)} "
                f"to {after.dtype} {list(after.shape)}"
            )


def _key(model: Model, chosen: Recipe, context: Context) -> dict[str, Any]:
    """What decides the result, as JSON holds it."""
    key = {
        "schema": VARIANT_SCHEMA,
        "revision": _RECIPES_REVISION,
        "model_sha256": model.sha256,
        "recipe": chosen.name,
        "libraries": {
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
        "inputs": [[t.name, t.dtype, list(t.shape), t.batch_axis] for t in context.inputs],
        "calibration": _digest_samples(context.calibration) if chosen.needs_calibration else None,
        "search": [context.search_digest, context.judge is not None, context.tolerated_drop]
        if chosen.needs_calibration
        else None,
        "seed": context.seed,
        "cpu": [platform.machine(), "saturates" if saturates() else "exact"],
    }
    return dict(json.loads(json.dumps(key)))


def _digest_samples(samples: Mapping[str, Array] | None) -> str | None:
    if not samples:
        return None
    sha = hashlib.sha256()
    for name in sorted(samples):
        array = np.ascontiguousarray(samples[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
        sha.update(array.data)
    return sha.hexdigest()


def _kept(final: Path, key: dict[str, Any], model: Model, recipe_name: str) -> Variant | None:
    """An earlier result, if it is the same and still whole."""
    path = final / _MODEL
    try:
        record = json.loads((final / _RECORD).read_text())
        if record["key"] != key:
            return None
        sha256, size_bytes = digest(path, external_locations(path))
        if sha256 != record["sha256"]:
            return None
        return Variant(recipe_name, model.sha256, path, sha256, size_bytes, tuple(record["notes"]))
    except (OSError, ValueError, KeyError, TypeError, PlannerError):
        return None
