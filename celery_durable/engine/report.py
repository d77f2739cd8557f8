"""What one message has done, as a line of text.

    order 0198…: reserve, charge, notify; completed
    order 0198…: charge failed (attempt 2 of 5), next in 4 s
    16 runs of order: 48 units; 3 completed

Celery logs it at the end of the message, and its events show it in Flower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from celery_durable.core.claim import Claim, RunFacts
from celery_durable.core.decision import Decision, End, Fork, Leave, Move, Outcome, Park, Then
from celery_durable.core.event import Event, Failed
from celery_durable.core.failure import attempt_text
from celery_durable.core.plan import Plan
from celery_durable.core.retry import UNLIMITED
from celery_durable.core.status import Status
from celery_durable.core.token import ForChild, ForOperator, ForSignal, ForTimer, Token
from celery_durable.core.units import unit_of
from celery_durable.store.bundle.committing import Plain
from celery_durable.workflow.observing import Followed

MOST_NAMED, MOST_CHARACTERS = 10, 500
"""Units that a report names, and characters of their names: Celery cuts its lines at 1024."""

MOST_FAILURES = 3
"""Failed units that a report names, whatever else it names."""


class Report:
    """Notes what a message does. Two threads may note; a note that gets lost is lost in a log."""

    def __init__(self) -> None:
        self._runs: dict[UUID, str] = {}
        self._names: list[str] = []
        self._units = 0
        self._failures: list[tuple[RunFacts, str]] = []
        self._failed = 0
        self._ends: Counter[Status] = Counter()
        self._rest = ""

    def __repr__(self) -> str:
        """The line. Celery logs the `repr` of what a task returns."""
        if not self._runs:
            return "nothing to do"
        if len(self._runs) > 1:
            return self._of_several()
        ((run_id, workflow),) = self._runs.items()
        failures = [what for _, what in self._failures]
        parts = [self._named(), *failures, self._unnamed(), *map(str, self._ends), self._rest]
        return f"{workflow} {run_id}: {'; '.join(filter(None, parts)) or 'nothing done'}"

    def followed(self) -> Followed:
        """What the message has done, for observers."""
        return Followed(dict(self._runs), tuple(what for _, what in self._failures))

    def took(self, *claims: Claim | None) -> None:
        """Note the runs whose tokens the message has claimed."""
        for claim in claims:
            if claim is not None:
                self._runs[claim.run.id] = claim.run.workflow

    def committed(self, plan: Plan, claim: Claim, decision: Decision, event: Event) -> None:
        """Note a decision that was committed alone."""
        then = decision.then
        self._rest = "" if isinstance(then, Move) else rest_of(then)
        for record in decision.records:
            if record.outcome is Outcome.COMPLETED:
                self._note(record.unit)
            elif record.outcome is Outcome.CANCELLED:
                self._note(f"{record.unit} cancelled")
            else:
                tries = plan if record.unit == claim.token.unit else None
                self._note_failure(claim.run, failed(record.unit, claim.token, tries))
        if isinstance(then, End) and decision.run is not None:
            self._ends[decision.run.status] += 1
        elif isinstance(event, Failed) and isinstance(then, Move) and not decision.records:
            what = failed(claim.token.unit, claim.token, plan)
            self._note_failure(claim.run, f"{what}, next in {seconds(then.delay)}")
        elif isinstance(then, Park) and isinstance(then.token.wait, ForOperator):
            self._note_failure(claim.run, failed(claim.token.unit, claim.token, plan))

    def dropped(self, unit: str) -> None:
        """Note a unit whose result was dropped."""
        self._note(f"{unit} dropped")

    def committed_together(self, plain: Sequence[Plain]) -> None:
        """Note plain decisions that were committed together."""
        self._units += len(plain)
        if len(self._runs) == 1 and len(self._names) < MOST_NAMED:
            for one in plain[:MOST_NAMED]:
                self._names += [record.unit for record in one.decision.records]
        if plain and isinstance(plain[0].decision.then, End):
            self._ends[Status.COMPLETED] += len(plain)

    def _note(self, unit: str) -> None:
        self._units += 1
        if len(self._names) < MOST_NAMED:
            self._names.append(unit)

    def _note_failure(self, run: RunFacts, what: str) -> None:
        self._failed += 1
        if len(self._failures) < MOST_FAILURES:
            self._failures.append((run, what))

    def _named(self) -> str:
        shown: list[str] = []
        left = MOST_CHARACTERS
        for name in self._names[:MOST_NAMED]:
            left -= len(name)
            if left < 0 and shown:
                break
            shown.append(name)
        more = self._units - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")

    def _unnamed(self) -> str:
        more = self._failed - len(self._failures)
        return f"{more} more failed" if more > 0 else ""

    def _of_several(self) -> str:
        workflows = ", ".join(dict.fromkeys(self._runs.values()))
        ends = ", ".join(f"{n} {status}" for status, n in self._ends.items())
        failures = [f"{run.workflow} {run.id}: {what}" for run, what in self._failures]
        units = "1 unit" if self._units == 1 else f"{self._units} units"
        parts = [units, ends, *failures, self._unnamed()]
        return f"{len(self._runs)} runs of {workflows}: {'; '.join(filter(None, parts))}"


def failed(unit: str, token: Token, plan: Plan | None) -> str:
    """Say that a unit has failed; `plan` tells how often the token's own unit is tried."""
    if plan is None or (most := unit_of(plan, token).retry.max_attempts) == 1:
        return f"{unit} failed"
    return f"{unit} failed ({attempt_text(token.attempt, None if most == UNLIMITED else most)})"


def rest_of(then: Then) -> str:  # noqa: PLR0911 - a table of cases
    """Say what the token waits for; empty if it does not."""
    match then:
        case Move() | End() | Leave():
            return ""
        case Fork():
            return f"waits for {len(then.branches)} branches"
        case Park(token=Token(wait=ForSignal(name))):
            return f"waits for the signal {name!r}"
        case Park(token=Token(wait=ForTimer()), timeout=float(timeout)):
            return f"sleeps for {seconds(timeout)}"
        case Park(token=Token(wait=ForChild(run_id))):
            return f"waits for the child run {run_id}"
        case Park(token=Token(wait=ForOperator())):
            return "paused"
        case Park():
            return "waits"


def seconds(number: float) -> str:
    """Seconds as a person reads them."""
    return f"{number:.1f}".removesuffix(".0") + " s"
