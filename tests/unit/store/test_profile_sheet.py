"""Profiles as CSV: good rows become profiles, each bad one is one line with file, line, column and wish."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import StoreError
from planner.store import profiles_of, read_sheet

HEADER = "model,variant,device,backend,batch_size,mean_ms,p50_ms,p95_ms,p99_ms,source"
GOOD = "bert,fp16,T4,tensorrt,8,3,2.9,3.5,4.25,a paper"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "sheet.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_percentiles_become_a_published_profile(tmp_path: Path) -> None:
    (profile,) = profiles_of(write(tmp_path, HEADER, GOOD))
    c = profile.configuration
    assert (c.model, c.variant, c.device, c.backend, c.batch_size) == ("bert", "fp16", "T4", "tensorrt", 8)
    assert (c.threads, c.replicas) == (1, 1)
    assert profile.published is not None
    assert profile.published.percentiles_ns == ((50, 2_900_000), (95, 3_500_000), (99, 4_250_000))
    assert profile.mean_ns() == 3_000_000
    assert profile.source == "a paper"
    assert profile.samples is None


def test_samples_and_all_that_is_optional(tmp_path: Path) -> None:
    header = (
        "source,samples_ms,taken_at,memory_mib,throughput_rps,instances,threads,"
        "backend_version,batch_size,backend,device,variant,model"
    )
    row = '"a lab, Tuesday",1.5 2 2.5,2026-07-30,512,900,3,2,1.22,4,onnxruntime,genoa,prune-30+int8,net.v2'
    (profile,) = profiles_of(write(tmp_path, header, row))
    assert profile.samples_ns == (1_500_000, 2_000_000, 2_500_000)
    assert profile.published is None
    assert profile.memory_bytes == 512 << 20
    assert profile.taken_at == "2026-07-30"
    assert profile.environment.libraries == (("onnxruntime", "1.22"),)
    assert (profile.configuration.threads, profile.configuration.replicas) == (2, 3)


@pytest.mark.parametrize(
    ("column", "cell", "wish"),
    [
        ("model", "", "model: expected a name of letters, digits, '.', '_', '+' and '-', got nothing"),
        ("model", "../bert", "model: expected a name"),
        ("variant", "a/b", "variant: expected a name"),
        ("batch_size", "0", "batch_size: expected a whole number above 0, got '0'"),
        ("batch_size", "1.5", "batch_size: expected a whole number"),
        ("mean_ms", "fast", "mean_ms: expected a number above 0, got 'fast'"),
        ("mean_ms", "1", "mean_ms: expected 1.488 or more, which the percentiles imply, got '1'"),
        ("p50_ms", "nan", "p50_ms: expected a number above 0"),
        ("p95_ms", "-1", "p95_ms: expected a number above 0"),
        ("p99_ms", "3.4", "p99_ms: expected 3.5 or more, as the percentile before, got '3.4'"),
        ("source", "", "source: expected text, got nothing"),
    ],
)
def test_a_bad_cell_is_one_line(tmp_path: Path, column: str, cell: str, wish: str) -> None:
    cells = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {column: cell}
    path = write(tmp_path, HEADER, GOOD, ",".join(cells.values()))
    sheet = read_sheet(path)
    assert len(sheet.profiles) == 1
    (problem,) = sheet.problems
    assert str(problem).startswith(f"{path}:3: ")
    assert wish in str(problem)
    assert "\n" not in str(problem)


def test_every_bad_row_is_told_and_the_first_is_raised(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, GOOD.replace("T4", "T 4"), "too,short", GOOD, GOOD.replace("8", "x"))
    sheet = read_sheet(path)
    assert [problem.line for problem in sheet.problems] == [2, 3, 5]
    assert "expected 10 cells as in the header, got 2" in str(sheet.problems[1])
    with pytest.raises(StoreError, match=r"sheet.csv:2: device: .* \(and 2 more"):
        profiles_of(path)


def test_one_configuration_of_one_source_is_given_once(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, GOOD, GOOD.replace("a paper", "another paper"), GOOD.replace("4.25", "5"))
    sheet = read_sheet(path)
    assert len(sheet.profiles) == 2, "two sources are two profiles"
    (problem,) = sheet.problems
    assert str(problem) == f"{path}:4: the same configuration and source as line 2"


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        ("model,variant,device,backend,batch_size", "source: expected this column in the header"),
        (HEADER + ",p98_ms", "p98_ms: expected a known column"),
        (HEADER + ",p99_ms", "p99_ms: expected each column once"),
        ("", "model: expected this column"),
        (HEADER, "expected a row for each profile"),
    ],
)
def test_a_bad_header_is_one_line(tmp_path: Path, header: str, wish: str) -> None:
    (problem,) = read_sheet(write(tmp_path, header)).problems
    assert str(problem).startswith(f"{tmp_path / 'sheet.csv'}:1: ")
    assert wish in str(problem)


def test_samples_stand_alone_and_a_mean_does_not(tmp_path: Path) -> None:
    header = "model,variant,device,backend,batch_size,mean_ms,samples_ms,source"
    both = read_sheet(write(tmp_path, header, "m,fp16,T4,trt,1,3,1 2 3,s"))
    assert "mean_ms: expected nothing beside samples_ms" in str(both.problems[0])
    mean = read_sheet(write(tmp_path, header, "m,fp16,T4,trt,1,3,,s"))
    assert "expected one of p50_ms, p90_ms, p95_ms, p99_ms, samples_ms" in str(mean.problems[0])
    wrong = read_sheet(write(tmp_path, header, "m,fp16,T4,trt,1,,1 two 3,s"))
    assert "samples_ms: expected numbers above 0 separated by spaces, got 'two'" in str(wrong.problems[0])


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match="cannot be read as UTF-8"):
        read_sheet(path)
    quote = write(tmp_path, HEADER, '"unclosed,fp16')
    assert "expected CSV" in str(read_sheet(quote).problems[0])
