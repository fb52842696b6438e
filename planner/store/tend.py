"""Bringing stores together, and clearing them out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from planner.domain.profile import Profile
from planner.errors import StoreError
from planner.store.profiles import ProfileStore, read_profile


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of each profile that was offered; names of files in the store, and reasons."""

    added: tuple[Path, ...]
    identical: tuple[Path, ...]
    replaced: tuple[Path, ...]
    """They had fewer samples than the one offered."""
    kept: tuple[Path, ...]
    """They have more samples than the one offered."""
    conflicts: tuple[str, ...]
    """As many samples, but others: the store's own stay."""
    unreadable: tuple[str, ...]


def merge(store: ProfileStore, other: Path) -> Merged:
    """Take the profiles of the store in ``other`` into ``store``; ``other`` is not changed.

    Raises StoreError where ``other`` is no folder. What cannot be read on either side is told and left alone.
    """
    if not other.is_dir():
        raise StoreError(f"{other}: not a folder; name a profile store")
    found: dict[str, list[Path]] = {"added": [], "identical": [], "replaced": [], "kept": []}
    conflicts, unreadable = [], []
    for path, profile in ProfileStore(other).each():
        if isinstance(profile, StoreError):
            unreadable.append(str(profile))
            continue
        target = store.path_of(profile.configuration, profile.environment)
        try:
            known = read_profile(target) if target.exists() else None
        except StoreError as error:
            unreadable.append(str(error))
            continue
        fate = _fate(known, profile)
        if fate == "conflict":
            conflicts.append(f"{path}: as many samples as {target}, but others; the latter stays")
            continue
        if fate in ("added", "replaced"):
            store.put(profile)
        found[fate].append(target)
    return Merged(
        added=tuple(found["added"]),
        identical=tuple(found["identical"]),
        replaced=tuple(found["replaced"]),
        kept=tuple(found["kept"]),
        conflicts=tuple(conflicts),
        unreadable=tuple(unreadable),
    )


def _fate(known: Profile | None, offered: Profile) -> str:
    if known is None:
        return "added"
    if known == offered:
        return "identical"
    have, get = known.samples or 0, offered.samples or 0
    if have == get:
        return "conflict"
    return "replaced" if get > have else "kept"


@dataclass(frozen=True, slots=True)
class Pruned:
    """Files that were deleted, or would be, each with the reason. ``undated``: may be too old, and stay."""

    deleted: tuple[tuple[Path, str], ...]
    undated: tuple[Path, ...]
    left: int


def prune(
    store: ProfileStore,
    older_than: timedelta | None = None,
    environment: str | None = None,
    unreadable: bool = False,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Pruned:
    """Delete what is older, of the environment with this id (or its beginning), or cannot be read.

    What any of the criteria names goes. Raises StoreError where none is given, or where no profile, or
    profiles of several environments, have that id.
    """
    if older_than is None and environment is None and not unreadable:
        raise StoreError("say what to prune: --older-than, --environment or --unreadable")
    files = list(store.each())
    if environment is not None:
        environment = _environment(environment, [p for _, p in files if isinstance(p, Profile)])
    before = (now or datetime.now(UTC)) - older_than if older_than else None
    deleted: list[tuple[Path, str]] = []
    undated: list[Path] = []
    for path, profile in files:
        if isinstance(profile, StoreError):
            if unreadable:
                deleted.append((path, "cannot be read"))
        elif environment == profile.environment.id:
            deleted.append((path, f"environment {environment}"))
        elif before is not None:
            taken = _taken(profile)
            if taken is None:
                undated.append(path)
            elif taken < before:
                deleted.append((path, f"taken at {profile.taken_at}"))
    for path, _ in deleted if not dry_run else ():
        path.unlink(missing_ok=True)
    return Pruned(tuple(deleted), tuple(undated), len(files) - len(deleted))


def _environment(begin: str, profiles: list[Profile]) -> str:
    ids = sorted({profile.environment.id for profile in profiles})
    found = [name for name in ids if begin and name.startswith(begin)]
    if len(found) != 1:
        listed = ", ".join(ids) or "none, the store is empty"
        which = "several environments begin" if found else "no environment begins"
        raise StoreError(f"{which} with {begin!r}; there are {listed}")
    return found[0]


def _taken(profile: Profile) -> datetime | None:
    try:
        taken = datetime.fromisoformat(profile.taken_at)
    except ValueError:
        return None
    return taken if taken.tzinfo else taken.replace(tzinfo=UTC)
