"""Work on as much at once as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def portions(items: Iterable[Item], size: Callable[[Item], int], room: int) -> Iterator[list[Item]]:
    """Runs of ``items``, in order, whose sizes add up to no more than ``room``; a larger item comes alone."""
    portion: list[Item] = []
    held = 0
    for item in items:
        needed = size(item)
        if portion and held + needed > room:
            yield portion
            portion, held = [], 0
        portion.append(item)
        held += needed
    if portion:
        yield portion
