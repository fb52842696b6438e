"""The queue of one replica, and the rule by which an idle instance takes from it.

An idle instance takes a full batch at once, or what there is when the oldest request has waited the queue
delay; with no delay, whatever there is. Requests go first come, first served. That is what capacities are
computed for (docs/capacity.md), and what the dynamic batcher of NVIDIA's Triton Inference Server does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Request]):
    request: Request
    size: int
    kind: Hashable
    came_ns: int


class Waiting(Generic[Request]):
    """Knows no clock and no thread: times are told. Not safe for several threads at once."""

    def __init__(self, max_batch_size: int, queue_delay_ns: int = 0) -> None:
        self._most, self._delay_ns = max_batch_size, queue_delay_ns
        self._entries: deque[_Entry[Request]] = deque()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._entries)

    def put(self, request: Request, now_ns: int, size: int = 1, kind: Hashable = None) -> None:
        """``size``: how many inferences it holds, at most ``max_batch_size``, not to be split. Only requests
        of the same ``kind``, such as their shapes, go into one batch.

        Raises ValueError where it fits no batch.
        """
        if not 1 <= size <= self._most:
            raise ValueError(f"a request holds 1 to {self._most} inferences, got {size}")
        self._entries.append(_Entry(request, size, kind, now_ns))

    def due_ns(self) -> int | None:
        """When an idle instance may take a batch, which may be in the past; None: nothing waits."""
        if not self._entries:
            return None
        came_ns = self._entries[0].came_ns
        if not self._delay_ns:
            return came_ns
        _, closed_ns = self._head()
        waited_ns = came_ns + self._delay_ns
        return waited_ns if closed_ns is None else min(waited_ns, closed_ns)

    def take(self, now_ns: int) -> list[Request]:
        """The next batch, off the queue; empty where none is due."""
        due_ns = self.due_ns()
        if due_ns is None or due_ns > now_ns:
            return []
        count, _ = self._head()
        return [self._entries.popleft().request for _ in range(count)]

    def all(self) -> list[Request]:
        """Everything, off the queue."""
        found = [entry.request for entry in self._entries]
        self._entries.clear()
        return found

    def _head(self) -> tuple[int, int | None]:
        """How many requests the next batch holds, and since when no further one fits; None: one still may."""
        size, kind = 0, self._entries[0].kind
        for count, entry in enumerate(self._entries):
            if entry.kind != kind or size + entry.size > self._most:
                return count, entry.came_ns
            size += entry.size
            if size == self._most:
                return count + 1, entry.came_ns
        return len(self._entries), None
