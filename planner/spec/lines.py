"""A YAML file's content with the line of each key, and its first error in one line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import get_args

import yaml
from pydantic import BaseModel, ValidationError

from planner.errors import SpecError


class Lines:
    """The file's content, and the line on which each key stands."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._line: dict[tuple[str | int, ...], int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = getattr(error, "problem", None) or "not YAML"
            raise SpecError(f"{where}: not valid YAML: {problem}") from None
        if node is None or not isinstance(node, yaml.MappingNode):
            raise SpecError(f"{path}: expected keys such as model: and workload:, found none")
        self._walk(node, ())

    def _walk(self, node: yaml.Node, location: tuple[str | int, ...]) -> None:
        self._line[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                if name in seen:
                    raise SpecError(
                        f"{self.path}:{key.start_mark.line + 1}: {name}: given twice; keep one of them"
                    )
                seen.add(name)
                self._walk(value, (*location, name))
                self._line[(*location, name)] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*location, index))

    def at(self, location: tuple[str | int, ...]) -> str:
        while location and location not in self._line:
            location = location[:-1]
        return f"{self.path}:{self._line[location]}"


def first_error(lines: Lines, error: ValidationError, whole: type[BaseModel]) -> str:
    """The most telling of pydantic's errors, in one line; ``whole``: the class of the file."""
    # Unknown keys first: they explain the missing ones. Then the most specific: of a choice between a
    # word and a list, the error inside the list that was given says more than "expected the word".
    first = min(
        error.errors(),
        key=lambda e: (e["type"] != "extra_forbidden", -len(_known_part(lines.content, e["loc"]))),
    )
    location = tuple(first["loc"])
    known = _known_part(lines.content, location)
    key = ".".join(str(part) for part in (location if first["type"] == "missing" else known))
    where = lines.at(location)
    if first["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key{_nearest(whole, location)}"
    if first["type"] == "missing":
        return f"{where}: {key}: missing; see planner schema plan"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = first.get("input")
    if isinstance(given, str | int | float) and "got" not in message:
        message += f", got {given!r}"
    return f"{where}: {key or 'plan.yaml'}: {message}"


def _known_part(content: object, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of a pydantic location that exists in the file (union branches add names of their own)."""
    part: list[str | int] = []
    for step in location:
        inside = isinstance(content, dict) and step in content
        listed = isinstance(content, list) and isinstance(step, int) and step < len(content)
        if inside or listed:
            content = content[step]  # type: ignore[index]
            part.append(step)
    return tuple(part)


def _nearest(whole: type[BaseModel], location: tuple[str | int, ...]) -> str:
    section = whole
    for step in location[:-1]:
        field = section.model_fields.get(str(step))
        inside = [field.annotation, *get_args(field.annotation)] if field else []
        section = next((a for a in inside if isinstance(a, type) and issubclass(a, BaseModel)), section)
    known = list(section.model_fields)
    match = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
    return f"; did you mean {match[0]}?" if match else f"; known here: {', '.join(known)}"
