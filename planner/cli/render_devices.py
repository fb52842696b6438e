"""What people read of ``planner devices`` and ``planner doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from planner.cli.output import columns, console, write_json
from planner.units import format_bytes

if TYPE_CHECKING:
    from planner.profiling.check import Check
    from planner.profiling.devices import Here
    from planner.profiling.doctor import Finding
    from planner.profiling.nvml import Gpu, GpuProcess, MigDevice

_PROCESSES_SHOWN = 3
_FEATURES_SHOWN = 4


def devices(found: Here) -> None:
    out = console()
    table = columns("device", "what", "memory", "runs", right=("memory",))
    cpu = found.cpu
    table.add_row(
        escape(cpu.name),
        f"{cpu.architecture} ({'' if cpu.exact else 'nearest: '}{cpu.device}), {cpu.cores} threads"
        + "".join(f", {feature}" for feature in cpu.features[:_FEATURES_SHOWN]),
        format_bytes(cpu.memory_bytes),
        _list(found.running_on("cpu")),
    )
    running = _list(found.running_on("nvidia-gpu"))
    for gpu, part in found.computing():
        name = gpu.name if part is None else f"{gpu.name} MIG {part.profile}"
        memory = gpu.memory_bytes if part is None else part.memory_bytes
        table.add_row(escape(name), _gpu(gpu, part), format_bytes(memory), running)
    for backend in found.running_on("intel-gpu"):
        table.add_row("Intel GPU", "", "", backend)
    out.print(table)
    if cpu.note:
        out.print(f"[yellow]Note:[/] {escape(cpu.note)}")
    for gpu in found.nvidia.gpus:
        for line in _warnings(gpu):
            out.print(f"[yellow]Note:[/] {escape(line)}")
    nvidia = found.nvidia
    if nvidia.problem is None:
        out.print(f"NVIDIA driver {nvidia.driver}, CUDA up to {nvidia.cuda}.")
    else:
        out.print(f"No NVIDIA GPU seen: {escape(nvidia.problem)}")
    _cannot(found.backends)


def doctor(findings: tuple[Finding, ...]) -> None:
    out = console()
    difference = "largest difference"
    table = columns("backend", "outputs", difference, "libraries", right=(difference,))
    for finding in findings:
        if finding.check.missing is not None:
            continue
        verdict = "[green]agree[/]" if finding.agrees else "[red]differ[/]"
        table.add_row(
            finding.check.backend,
            "[red]failed[/]" if finding.check.failure else verdict,
            "" if finding.error is None else f"{finding.error:.1e}",
            ", ".join(f"{name} {version}" for name, version in finding.check.libraries),
        )
    out.print(table)
    _cannot(tuple(finding.check for finding in findings))


def devices_json(found: Here) -> None:
    cpu, nvidia = found.cpu, found.nvidia
    write_json(
        {
            "cpu": {
                "name": cpu.name,
                "architecture": cpu.architecture,
                "device": cpu.device,
                "exact": cpu.exact,
                "note": cpu.note,
                "cores": cpu.cores,
                "memory_bytes": cpu.memory_bytes,
                "features": list(cpu.features),
                "backends": list(found.running_on("cpu")),
            },
            "nvidia": {
                "driver": nvidia.driver,
                "cuda": nvidia.cuda,
                "problem": nvidia.problem,
                "gpus": [_gpu_json(gpu) for gpu in nvidia.gpus],
                "backends": list(found.running_on("nvidia-gpu")),
            },
            "intel_gpu": {"backends": list(found.running_on("intel-gpu"))},
            "backends": [_check_json(check) for check in found.backends],
        }
    )


def doctor_json(findings: tuple[Finding, ...]) -> None:
    write_json(
        {
            "backends": [
                _check_json(finding.check)
                | {"largest_difference": _finite(finding.error), "agrees": finding.agrees}
                for finding in findings
            ]
        }
    )


def _gpu(gpu: Gpu, part: MigDevice | None) -> str:
    facts = [f"compute {gpu.compute_capability}"]
    if gpu.sm_clock_mhz is not None:
        most = "" if gpu.max_sm_clock_mhz is None else f"/{gpu.max_sm_clock_mhz}"
        facts.append(f"{gpu.sm_clock_mhz}{most} MHz")
    if gpu.throttled_by:
        facts.append("[red]throttled[/]")
    if gpu.processes if part is None else part.processes:
        facts.append("[red]shared[/]")
    return ", ".join(facts)


def _warnings(gpu: Gpu) -> list[str]:
    """What spoils measurements on a GPU, or keeps it from computing."""
    name = f"{gpu.index}: {gpu.name}"
    lines = []
    if gpu.throttled_by:
        lines.append(f"GPU {name} is throttled: {', '.join(gpu.throttled_by)}")
    if gpu.mig_enabled and not gpu.slices:
        lines.append(f"GPU {name} has MIG on and no slice; make one with: nvidia-smi mig -cgi PROFILE -C")
    if not gpu.mig_enabled and gpu.processes:
        lines.append(f"GPU {name} is shared with {_processes(gpu.processes)}")
    lines += [
        f"GPU {name} MIG {part.profile} is shared with {_processes(part.processes)}"
        for part in gpu.slices
        if part.processes
    ]
    return lines


def _processes(processes: tuple[GpuProcess, ...]) -> str:
    shown = [
        f"process {p.pid}" + ("" if p.memory_bytes is None else f" ({format_bytes(p.memory_bytes)})")
        for p in processes[:_PROCESSES_SHOWN]
    ]
    more = len(processes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _cannot(checks: tuple[Check, ...]) -> None:
    out = console()
    for check in checks:
        if check.failure is not None:
            out.print(f"{check.backend} [red]failed[/]: {escape(check.failure)}")
        elif check.missing is not None:
            out.print(f"{check.backend} cannot run here: {escape(check.missing)}")


def _gpu_json(gpu: Gpu) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "memory_bytes": gpu.memory_bytes,
        "used_bytes": gpu.used_bytes,
        "compute_capability": gpu.compute_capability,
        "sm_clock_mhz": gpu.sm_clock_mhz,
        "max_sm_clock_mhz": gpu.max_sm_clock_mhz,
        "memory_clock_mhz": gpu.memory_clock_mhz,
        "max_memory_clock_mhz": gpu.max_memory_clock_mhz,
        "temperature_c": gpu.temperature_c,
        "power_w": gpu.power_w,
        "throttled_by": list(gpu.throttled_by),
        "processes": _processes_json(gpu.processes),
        "mig_enabled": gpu.mig_enabled,
        "slices": [
            {
                "uuid": part.uuid,
                "profile": part.profile,
                "memory_bytes": part.memory_bytes,
                "used_bytes": part.used_bytes,
                "processes": _processes_json(part.processes),
            }
            for part in gpu.slices
        ],
    }


def _processes_json(processes: tuple[GpuProcess, ...]) -> list[dict[str, int | None]]:
    return [{"pid": process.pid, "memory_bytes": process.memory_bytes} for process in processes]


def _check_json(check: Check) -> dict[str, Any]:
    return {
        "backend": check.backend,
        "runs_on": check.runs_on,
        "can_run": check.can_run,
        "missing": check.missing,
        "failure": check.failure,
        "libraries": dict(check.libraries),
    }


def _finite(error: float | None) -> float | None:
    """JSON knows no infinity."""
    return None if error is None or error == float("inf") else error


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"
