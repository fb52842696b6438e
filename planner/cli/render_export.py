"""What `planner export` prints."""

from __future__ import annotations

from pathlib import Path

from planner.cli.output import columns, console, write_json
from planner.export import Exported
from planner.export.servers import Server


def terminal(done: Exported, output: Path) -> None:
    out = console()
    table = columns("server", "count", "instance", "serves", right=("count",))
    for server in done.servers:
        table.add_row(server.name, _count(server), _instance(server), ", ".join(_serves(server)))
    out.print(table)
    for note in done.notes:
        out.print(f"Note: {note}", markup=False)
    out.print(
        f"Wrote {len(done.files)} files for {done.target} to {output}, from plan {done.origin.id}.",
        markup=False,
    )


def as_json(done: Exported) -> None:
    write_json(
        {
            "target": done.target,
            "plan_sha256": done.origin.sha256,
            "files": [path.as_posix() for path in done.files],
            "notes": list(done.notes),
        }
    )


def _count(server: Server) -> str:
    return str(server.most) if server.least == server.most else f"{server.least} to {server.most}"


def _instance(server: Server) -> str:
    offer = server.offer
    words = [offer.provider, offer.instance_type, server.mig]
    return " ".join(word for word in words if word)


def _serves(server: Server) -> list[str]:
    return [f"{served.replicas} × {served.candidate.variant} of {served.model}" for served in server.served]
