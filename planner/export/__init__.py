"""A plan for what runs it: Triton's model repositories, Kubernetes, KServe, SkyPilot.

``servers`` turns the fleet into Triton servers; ``triton`` writes what each of them loads, the others where
and how many of them run. ``source`` reads the plan, ``files`` writes the export.
"""

from planner.export.export import (
    DEFAULT_CLAIM,
    DEFAULT_IMAGE,
    TARGETS,
    Exported,
    Settings,
    Target,
    export,
)

__all__ = ["DEFAULT_CLAIM", "DEFAULT_IMAGE", "TARGETS", "Exported", "Settings", "Target", "export"]
