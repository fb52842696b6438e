"""Records: written and read back, reused only where all agrees, and the engines that may be run at all."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.backends.tensorrt.order import BuildOptions, Order
from planner.backends.tensorrt.place import Place, differences
from planner.backends.tensorrt.record import (
    EngineRecord,
    key,
    read_record,
    record_path,
    reusable,
    write_record,
)
from planner.backends.tensorrt.trust import refusal
from planner.domain.model import BoundInput
from planner.errors import BackendError

PLACE = Place("tensorrt", "11.4.0", "NVIDIA L4", "8.9", "580.65.06", "13.0")
ORDER = Order(
    "a" * 64,
    (BoundInput("x", "float32", (1, 3), 0), BoundInput("mask", "bool", (7,), None)),
    (1, 4),
    BuildOptions(workspace_bytes=1 << 30, sparse_weights=True),
)
RECORD = EngineRecord(PLACE, ORDER, ("y", "z"), "b" * 64, 123, "built", "2026-01-01T00:00:00+00:00")

OTHER_ORDERS = [
    replace(ORDER, onnx_sha256="c" * 64),
    replace(ORDER, batch_sizes=(1, 8)),
    replace(ORDER, inputs=ORDER.inputs[:1]),
    replace(ORDER, inputs=(BoundInput("x", "float32", (1, 4), 0), ORDER.inputs[1])),
    *(
        replace(ORDER, options=replace(ORDER.options, **changed))
        for changed in (
            {"workspace_bytes": None},
            {"builder_level": 5},
            {"sparse_weights": False},
            {"capabilities": ("8.9",)},
        )
    ),
]
OTHER_PLACES = [replace(PLACE, **{field.name: "other"}) for field in fields(Place)]


def test_the_same_order_in_the_same_place_is_reusable() -> None:
    assert reusable(RECORD, ORDER, PLACE)


@pytest.mark.parametrize("order", OTHER_ORDERS)
def test_any_other_order_is_not(order: Order) -> None:
    assert not reusable(RECORD, order, PLACE)
    assert key(order, PLACE) != key(ORDER, PLACE)


@pytest.mark.parametrize("place", OTHER_PLACES)
def test_no_other_place_is(place: Place) -> None:
    assert not reusable(RECORD, ORDER, place)
    assert key(ORDER, place) != key(ORDER, PLACE)


def test_what_differs_is_named() -> None:
    assert differences(PLACE, PLACE) == ""
    here = replace(PLACE, driver="590.1", device="NVIDIA L40S")
    assert differences(PLACE, here) == (
        "device NVIDIA L4 there and NVIDIA L40S here, driver 580.65.06 there and 590.1 here"
    )


@given(
    st.sampled_from([RECORD, *(replace(RECORD, order=o) for o in OTHER_ORDERS)]),
    st.sampled_from(["built", "built-ahead", "measured"]),
    st.text(max_size=20),
)
def test_records_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, record: EngineRecord, status: str, device: str
) -> None:
    engine = tmp_path_factory.mktemp("record") / "m.engine"
    record = replace(record, status=status, place=replace(PLACE, device=device))  # type: ignore[arg-type]
    write_record(engine, record)
    assert read_record(engine) == record
    assert [f.name for f in engine.parent.iterdir()] == ["m.engine.json"]


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "m.engine") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an engine's record"),
        ("{}", "not an engine's record"),
        ("[1]", "not an engine's record"),
        ('{"schema": 1}', "not an engine's record"),
        ('{"schema": 99}', "record schema 99, this planner reads 1"),
    ],
)
def test_what_is_no_record_is_an_error_of_one_line(tmp_path: Path, text: str, message: str) -> None:
    record_path(tmp_path / "m.engine").write_text(text)
    with pytest.raises(BackendError, match=message) as caught:
        read_record(tmp_path / "m.engine")
    assert "\n" not in str(caught.value)


def test_a_status_that_is_unknown_is_no_record(tmp_path: Path) -> None:
    write_record(tmp_path / "m.engine", replace(RECORD, status="guessed"))  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="guessed"):
        read_record(tmp_path / "m.engine")


def test_what_was_built_ahead_is_never_called_measured() -> None:
    assert RECORD.as_measured() == replace(RECORD, status="measured")
    assert RECORD.as_measured().as_measured() == RECORD.as_measured()
    with pytest.raises(ValueError, match="unmeasured"):
        replace(RECORD, status="built-ahead").as_measured()


@pytest.mark.parametrize(
    ("found", "record", "vouched", "trusted", "reason"),
    [
        (RECORD.sha256, RECORD, {RECORD.sha256}, False, None),
        (RECORD.sha256, RECORD, set(), True, None),
        (RECORD.sha256, RECORD, {RECORD.sha256}, True, None),
        (RECORD.sha256, RECORD, set(), False, "not in this store's manifest"),
        (RECORD.sha256, RECORD, {"f" * 64}, False, "not in this store's manifest"),
        (RECORD.sha256, None, {RECORD.sha256}, True, "no record beside it"),
        ("f" * 64, RECORD, {RECORD.sha256}, False, "its sha256 is"),
        ("f" * 64, RECORD, {"f" * 64}, False, "its sha256 is"),
        ("f" * 64, RECORD, {"f" * 64, RECORD.sha256}, True, "its sha256 is"),
    ],
)
def test_only_the_records_own_and_vouched_for_engine_may_run(
    found: str, record: EngineRecord | None, vouched: set[str], trusted: bool, reason: str | None
) -> None:
    refused = refusal(found, record, vouched, trusted)
    assert refused is None if reason is None else reason in (refused or "")
