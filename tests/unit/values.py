"""The values that unit tests are made of, each with only what its test is about to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from celery_durable.core.claim import Claim, RunFacts
from celery_durable.core.decide import decide as decide_core
from celery_durable.core.decision import Decision, Undo
from celery_durable.core.event import Crashed, Event, Failed, Flagged, Succeeded
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.names import RETURNS, ROLLBACK
from celery_durable.core.nodes import Compensator, Node, Routing, StepNode
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.rollback import compensate
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token
from celery_durable.errors import ErrorRecord
from celery_durable.store import codec
from celery_durable.store.heartbeat import Heartbeat

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BEGAN = NOW - timedelta(seconds=2)
RUN_ID = UUID("01900000-0000-7000-8000-000000000001")
TOKEN_ID = UUID("01900000-0000-7000-8000-000000000002")
FENCE = UUID("01900000-0000-7000-8000-000000000003")
WORKER = UUID("01900000-0000-7000-8000-000000000004")

RESULT = "the result of charge"

DECLINED = ErrorRecord("CardDeclined", "no money", unit="b")
LOST = ErrorRecord("WorkerLost", "3 workers died", unit="b")

RETRY = RetryPolicy(max_attempts=3, backoff="fixed", initial=10, jitter=False)
UNDO_RETRY = RetryPolicy(max_attempts=5, backoff="fixed", initial=7, jitter=False)


def node(name: str, *, compensated: bool = False, retry: RetryPolicy = RETRY) -> StepNode:
    """A step on a queue of its own; its compensator, if it has one, on another."""
    undo = Compensator(UNDO_RETRY, undo_place(name)) if compensated else None
    return StepNode(name, retry, place(name), compensator=undo)


def place(name: str) -> Routing:
    return Routing(f"queue of {name}", priority=3)


def undo_place(name: str) -> Routing:
    return Routing(f"queue of undoing {name}", priority=4)


def plan(*nodes: Node | str, returns: bool = False) -> Plan:
    made = tuple(node(n) if isinstance(n, str) else n for n in nodes)
    return Plan("order", 1, made, returns=returns)


def at(unit: str, **changes: Any) -> Token:
    """A token whose unit is `unit`; on the way back where `rollback` says so."""
    name = unit if unit in (RETURNS, ROLLBACK) else unit.split("#", 1)[0]
    return Token(TOKEN_ID, RUN_ID, node=name, unit=unit, **changes)


def undoing(unit: str, ends_as: Status = Status.FAILED, **changes: Any) -> Token:
    """A token that is about to undo this unit."""
    return at(f"{unit}#compensate", rollback=ends_as, **changes)


@dataclass(frozen=True)
class Happened:
    """An event, and what the journal says is to be undone next."""

    event: Event
    undo: Undo | None = None

    @property
    def error(self) -> ErrorRecord:
        """What a unit has failed with."""
        assert isinstance(self.event, Failed | Crashed)
        return self.event.error


def undo_of(step: str | None) -> Undo | None:
    """What the shell says is to be undone next, of a step's unit."""
    return None if step is None else Undo(step, step)


def succeeded(result: str | None = "1", undo: str | None = None) -> Happened:
    return Happened(Succeeded(result, BEGAN), undo_of(undo))


def failed(undo: str | None = None, **changes: Any) -> Happened:
    return Happened(Failed(DECLINED, BEGAN, **changes), undo_of(undo))


def crashed(undo: str | None = None) -> Happened:
    return Happened(Crashed(LOST, BEGAN), undo_of(undo))


def flagged(undo: str | None = None, due_in: float = 0.0) -> Happened:
    return Happened(Flagged(due_in), undo_of(undo))


def decide(plan: Plan, token: Token, what: Happened | Event, now: datetime) -> Decision:
    """What becomes of the token, as the shell commits it."""
    happened = what if isinstance(what, Happened) else Happened(what)
    decided = decide_core(plan, token, happened.event, now)
    if isinstance(decided, Decision):
        return decided
    return compensate(plan, decided, happened.undo)


def attempt(number: int, began_at: datetime = BEGAN) -> FailedAttempt:
    return FailedAttempt(number, DECLINED, began_at, NOW)


def claim(token: Token, input: object = None, error: ErrorRecord | None = None) -> Claim:
    """A claim of `token`, in a run with this input and error."""
    facts = RunFacts(
        id=token.run_id,
        workflow="order",
        version=1,
        status=Status.RUNNING if token.rollback is None else Status.COMPENSATING,
        key=None,
        priority=None,
        tags={},
        input=encode(input, "input"),
        error=error,
    )
    return Claim(token, facts, FENCE, WORKER, queue="durable", priority=None, seen_at=NOW)


def written(value: object, limit: int = 1_000_000) -> str:
    """The text of a result, as it is stored."""
    return codec.dumps(value, what=RESULT, limit=limit)


def encode(value: object, what: str) -> str:
    return codec.dumps(value, what=what, limit=1_000)


class FixedJournal:
    """A past with these results, which notes every question it is asked."""

    def __init__(self, results: Mapping[str, object] | None = None) -> None:
        self.results = dict(results or {})
        self.inputs: dict[str, str] = {}
        self.signals: dict[str, str] = {}
        self.heard = Heartbeat(Flags.NONE)
        self.notes: list[dict[str, Any] | None] = []
        self.asked: list[str] = []

    def decode(self, text: str) -> Any:
        self.asked.append("decode")
        return codec.loads(text)

    def result(self, unit: str) -> tuple[Any] | None:
        self.asked.append(unit)
        return (self.results[unit],) if unit in self.results else None

    def completed_nodes(self) -> tuple[str, ...]:
        self.asked.append("completed nodes")
        return tuple(self.results)

    def input(self, unit: str) -> str | None:
        self.asked.append(unit)
        return self.inputs.get(unit)

    def signal(self, name: str) -> str | None:
        self.asked.append(name)
        return self.signals.get(name)

    def beat(self, claim: Claim, note: dict[str, Any] | None) -> Heartbeat:
        self.asked.append(f"beat {claim.token.unit}")
        self.notes.append(note)
        return self.heard


def undoable(plan: Plan) -> tuple[str, ...]:
    """The nodes of which something can be undone."""
    return tuple(n.name for n in plan.nodes if any(body.is_undoable for body in n.bodies))
