"""A user's own Python, named ``module:function``: found, and called so that every failure is one line."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from planner.errors import DataError

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_callable_name(text: str) -> bool:
    return _CALLABLE.fullmatch(text) is not None


def find(what: str, name: str, base: Path) -> tuple[ModuleType, Callable[..., Any]]:
    """The module and the function called ``name``, looked for in ``base`` first. ``what`` it is, for errors.

    Raises DataError.
    """
    module_name, function_name = name.split(":")
    try:
        with _first_on_path(base, module_name):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise DataError(f"{what} {name}: importing {module_name} failed: {_named(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise DataError(
            f"{what} {name}: {module_name} has no function {function_name}{nearest(function_name, names)}"
        )
    return module, function


def call(what: str, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Raises DataError for whatever the function raises."""
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        raise DataError(f"{what} {name}: {name.split(':')[1]}() failed: {_named(error)}") from error


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none'}"


@contextmanager
def _first_on_path(base: Path, module_name: str) -> Iterator[None]:
    """A module of the same name from another folder is forgotten, else it would be taken for this one."""
    top = module_name.split(".")[0]
    folder = str(base.resolve())
    known = sys.modules.get(top)
    here = (base / f"{top}.py").is_file() or (base / top).is_dir()
    if known is not None and here and not str(getattr(known, "__file__", None) or "").startswith(folder):
        for name in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
            del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _named(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
