"""Structured pruning of ONNX graphs: channels, hidden neurons and heads go, what is left is refitted.

``normalize`` brings the graph into plain form, ``tracing`` (with ``rules_*``) finds what must go together,
``groups`` sorts it, ``selection`` and ``importance`` choose, ``surgery`` cuts, ``masks`` proves the cut,
``refitting`` and ``reconstruction`` make up for what was lost. ``pruned`` runs them in that order.
"""

from planner.variants.pruning.pruned import Pruned, RemovedGroup, prune

__all__ = ["Pruned", "RemovedGroup", "prune"]
