"""docs/cli.md is what the program says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "planner.cli", "utils", "docs"]
    options = ["--name", "planner", "--title", "The command line", "--output", str(made)]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
    assert made.read_text() == (DOCS / "cli.md").read_text(), "run: make docs"
