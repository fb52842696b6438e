"""A plan's engines behind a batcher, and as an HTTP endpoint of the Open Inference Protocol.

``waiting`` is the queue and its rule, ``batcher`` runs a replica by it, ``engine`` and ``worker`` are the two
ends of an engine in a process of its own, ``local`` says which part of a plan this machine holds, ``tensors``
and ``protocol`` read and write requests, ``service`` and ``app`` answer them, ``run`` starts and drains all.
"""

from planner.serving.batcher import Batched, Batcher, Overfull, Unavailable
from planner.serving.engine import EngineDied, EngineProcess, Inferred
from planner.serving.local import LocalModel, LocalPart, deployed_part, local_part

__all__ = [
    "Batched",
    "Batcher",
    "EngineDied",
    "EngineProcess",
    "Inferred",
    "LocalModel",
    "LocalPart",
    "Overfull",
    "Unavailable",
    "deployed_part",
    "local_part",
]
