"""What a rule found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PASSED: Final = "passed"
FAILED: Final = "failed"
CANNOT_TELL: Final = "cannot tell"
Verdict = Literal["passed", "failed", "cannot tell"]
Weight = Literal["pass", "warn", "fail"]
"""What the policy makes of a verdict."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule's verdict about one ``subject`` (empty: the plan as a whole), and why in words with
    numbers."""

    rule: str
    verdict: Verdict
    words: str
    subject: str = ""

    @property
    def name(self) -> str:
        return f"{self.rule}: {self.subject}" if self.subject else self.rule
