"""What every command prints with: the console, tables without lines, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection

from rich.console import Console
from rich.table import Table

WIDTH = 100


def console() -> Console:
    """Never wider than a reader's eye, never narrower where it is no terminal."""
    out = Console(highlight=False)
    return Console(highlight=False, width=min(out.width, WIDTH) if out.is_terminal else WIDTH)


def columns(*headers: str, right: Collection[str] = ()) -> Table:
    """Columns of these headers, those in ``right`` aligned there; long cells are folded, never cut."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        made.add_column(header, justify="right" if header in right else "left", overflow="fold")
    return made


def write_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
