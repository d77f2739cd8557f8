"""What `crash_everywhere` has found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Moment = Literal["before", "after"]

WHAT_TO_DO = (
    "A handler is called again when its worker dies before its commit. Pass ctx.idempotency_key"
    " (self.request.id in a task) to what it calls, look first whether the work is done, or make"
    " the step transactional."
)


@dataclass(frozen=True, slots=True)
class CrashFinding:
    """A death that has made a difference.

    The worker died `moment` the commit number `commit` of the run, which was that of `unit`. `what`
    differed: "result" (of a second call with the same idempotency key), "effects" (what `check`
    returned) or "outcome" (of a unit or of the run). `expected` and `found` are texts.
    """

    unit: str
    moment: Moment
    commit: int
    what: Literal["result", "effects", "outcome"]
    expected: str
    found: str

    def __str__(self) -> str:
        died = f"{self.unit} is not repeatable: its worker died {self.moment} its commit, and"
        match self.what:
            case "result":
                return f"{died} its second call returned {self.found} after {self.expected}."
            case "effects":
                return f"{died} check() returned {self.found} instead of {self.expected}."
            case "outcome":
                return f"{died} {self.found} instead of {self.expected}."


@dataclass(frozen=True, slots=True)
class Report:
    """How often a worker has died, and what that has changed."""

    workflow: str
    crashes: int
    findings: tuple[CrashFinding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """True if no death has made a difference."""
        return not self.findings

    def raise_if_found(self) -> None:
        """Raise `AssertionError` with the findings, if there are any."""
        if self.findings:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        if self.ok:
            return (
                f"{self.workflow}: a worker died {self.crashes} times, before and after each"
                " commit, and that made no difference."
            )
        listed = "\n".join(f"- {finding}" for finding in self.findings)
        return (
            f"{self.workflow}: of {self.crashes} deaths of a worker,"
            f" {len({(one.commit, one.moment) for one in self.findings})} made a difference.\n"
            f"{listed}\n{WHAT_TO_DO}"
        )
