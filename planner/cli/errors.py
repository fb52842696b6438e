"""Every exception becomes one line on stderr and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from planner.errors import PlannerError

MISSING_DEPENDENCY = 4
INTERNAL_ERROR = 70
INTERRUPTED = 130
DEBUG = "PLANNER_DEBUG"
INSTALLED_BY = {"onnxruntime": "onnxruntime-gpu", "yaml": "pyyaml"}
"""Packages that are installed under another name than they are imported by."""

P = ParamSpec("P")
R = TypeVar("R")


def exit_codes(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap ``command`` so that it ends in the exit code of what it raised, with one clear line."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PlannerError as error:
            _say(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _say("interrupted; every finished measurement is kept, run the command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of a pipe has gone (head, less): not an error of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except typer.Exit:
            raise
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package == "planner":
                raise
            install = f"pip install {INSTALLED_BY.get(package, package)}"
            _say(f"the package {package} is missing; install it with: {install}")
            raise typer.Exit(MISSING_DEPENDENCY) from None
        except Exception as error:
            if os.environ.get(DEBUG):
                traceback.print_exc()
            first = (str(error).strip() or "no message").splitlines()[0]
            _say(f"internal error: {type(error).__name__}: {first}; set {DEBUG}=1 for the traceback")
            raise typer.Exit(INTERNAL_ERROR) from None

    return wrapped


def _say(message: str) -> None:
    print(f"planner: {' '.join(message.splitlines())}", file=sys.stderr)
