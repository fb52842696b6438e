"""What runs engines. Each backend's library is imported inside its own module only."""

from planner.backends.base import Backend, Feed, Session, backend, backend_names

__all__ = ["Backend", "Feed", "Session", "backend", "backend_names"]
