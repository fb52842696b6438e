"""A plan's engines behind a batcher, and as an HTTP endpoint of the Open Inference Protocol.

``waiting`` is the queue and its rule, ``batcher`` runs a replica by it, ``engine`` and ``worker`` are the two
ends of an engine in a process of its own, ``local`` says which part of a plan this machine holds, ``tensors``
and ``protocol`` read and write requests, ``service`` and ``app`` answer them, ``run`` starts and drains all.

Nothing is imported here: every engine's process comes by, and needs a backend and no more.
"""
