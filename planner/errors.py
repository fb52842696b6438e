"""The exception tree: every error a user can cause or meet, with the exit code it ends in.

A message says what was wrong, where, and what to do, in one line. Only the command line catches.
"""

from __future__ import annotations


class PlannerError(Exception):
    """Base of everything the planner raises on purpose."""

    exit_code = 70


class InputError(PlannerError):
    """The input is wrong: a file, a key, a value."""

    exit_code = 2


class SpecError(InputError):
    """plan.yaml cannot be read or does not make sense."""


class ModelError(InputError):
    """The ONNX model cannot be read, or not all of its dimensions are bound."""


class DataError(InputError):
    """Calibration or evaluation data are missing, malformed or do not fit the model."""


class CatalogError(InputError):
    """A row of the hardware catalog is wrong."""


class StoreError(InputError):
    """A file of the profile store or of the output folder cannot be read or written."""


class ManifestError(InputError):
    """An engine is not the one its manifest describes."""


class SupportError(InputError):
    """A percentile was asked of too few samples."""


class InfeasibleError(PlannerError):
    """No plan meets the limits; the message names what blocks it and the nearest thing that would do."""

    exit_code = 3


class MissingDependencyError(PlannerError):
    """A package is missing; the message holds the install command."""

    exit_code = 4


class VariantError(PlannerError):
    """A recipe could not make its variant; becomes a rejection, the run goes on."""


class BackendError(PlannerError):
    """An engine could not be loaded or crashed; becomes a rejection, the run goes on."""


def cause_of_death(returncode: int) -> str:
    """Of a process, by what ``subprocess`` says of its end."""
    return f"killed by signal {-returncode}" if returncode < 0 else f"exit code {returncode}"


def first_line(error: BaseException) -> str:
    """What an error says first, or what it is where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()
