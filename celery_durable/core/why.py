"""Why a run stands where it stands: reasons, made of facts.

`explain` looks at each token of a run in the order in which a unit comes to be executed: what it
waits for, its hint in the outbox, the relay, the broker's queue, the workers. The first of these
that is not as it must be is the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from uuid import UUID

from celery_durable.core.compatibility import offer_of, version_key
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.token import Flags, ForBranches, ForChild, ForSignal, ForTimer, Token

SOON = timedelta(seconds=5)
"""For so long a message may be on its way without anything being wrong."""

DEAF_AFTER = timedelta(seconds=15)
"""A message that free workers have not taken for so long does not come to them."""

RELAY_IS_GONE_AFTER = timedelta(seconds=15)
"""A relay that has not said for so long that it is there is gone (`background.presence`)."""


class Code(StrEnum):
    """What keeps a run, or a unit of it, from going on."""

    ENDED = "ended"
    SIGNAL = "signal"
    SLEEPING = "sleeping"
    CHILD = "child"
    BRANCHES = "branches"
    RETRYING = "retrying"
    DELAYED = "delayed"
    CANCELLING = "cancelling"
    EXECUTING = "executing"
    WORKER_LOST = "worker_lost"
    LOCKED = "locked"
    ON_ITS_WAY = "on_its_way"
    NO_RELAY = "no_relay"
    BROKER_UNAVAILABLE = "broker_unavailable"
    REFUSED = "refused"
    UNPUBLISHED = "unpublished"
    NO_CONSUMER = "no_consumer"
    UNKNOWN = "unknown"
    BUSY = "busy"
    DEAF = "deaf"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a run does not go on.

    `text` is a sentence without its times: it has been so `since`, and will be at the latest
    `until`. `help` is the command, or the deed, that moves the run on; empty where nothing has to
    be done. `unit` is the unit that it is about. `inner` are the reasons of the child, or of the
    branches, that it waits for.
    """

    code: Code
    text: str
    since: datetime | None = None
    until: datetime | None = None
    help: str = ""
    unit: str | None = None
    inner: tuple[Reason, ...] = ()

    def __str__(self) -> str:
        times = [f"since {self.since:%Y-%m-%d %H:%M:%S}Z"] if self.since else []
        times += [f"until {self.until:%Y-%m-%d %H:%M:%S}Z"] if self.until else []
        lines = [f"{self.text}{' (' + ', '.join(times) + ')' if times else ''}."]
        lines += [f"-> {self.help}"] if self.help else []
        lines += [f"  {line}" for reason in self.inner for line in str(reason).splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a run stands where it stood at `at`; the reasons are outermost first."""

    run_id: UUID
    status: Status
    at: datetime
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.reasons))


@dataclass(frozen=True, slots=True)
class Hint:
    """The hint of a token in the outbox, and what the broker said when it refused it last."""

    available_at: datetime | None = None
    tries: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A worker process: what it consumes and knows, and how much it has in hand.

    `is_dead`: its lock is free, and nobody has said so yet.
    """

    id: UUID
    hostname: str
    pid: int
    queues: frozenset[str]
    knows: Mapping[str, Sequence[str]]
    slots: int
    busy: int
    expires_at: datetime
    draining: bool = False
    is_dead: bool = False


@dataclass(frozen=True, slots=True)
class SeenRelay:
    """A relay, and what keeps it from publishing, if something does."""

    hostname: str
    pid: int
    seen_at: datetime
    outage: str | None = None
    outage_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Locker:
    """A transaction of somebody else's that the library waits for."""

    pid: int
    user: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A token, who has claimed it since when, and its hint."""

    token: Token
    since: datetime
    hinted_at: datetime
    queue: str
    wake_at: datetime | None = None
    waiting_since: datetime | None = None
    begun: bool = False
    claimed_by: UUID | None = None
    hint: Hint | None = None
    progress: str = ""
    deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know of a run and its surroundings at one moment, `at`."""

    at: datetime
    run_id: UUID
    workflow: str
    version: int
    status: Status
    tokens: Sequence[Standing] = ()
    workers: Sequence[Consumer] = ()
    relays: Sequence[SeenRelay] = ()
    lockers: Sequence[Locker] = ()
    signals: Sequence[str] = ()
    children: Mapping[UUID, Diagnosis] = field(default_factory=dict[UUID, Diagnosis])
    finished_at: datetime | None = None
    error: str | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None


def explain(facts: Facts) -> Diagnosis:
    """Explain why the run stands; there is at least one reason."""
    return Diagnosis(facts.run_id, facts.status, facts.at, tuple(_reasons(facts)))


def _reasons(facts: Facts) -> Iterator[Reason]:
    if facts.status in FINISHED:
        why = f": {facts.error}" if facts.error else ""
        yield Reason(Code.ENDED, f"The run has ended, {facts.status.value}{why}", facts.finished_at)
        return
    if facts.cancel_requested_at is not None:
        why = f" ({facts.cancel_reason})" if facts.cancel_reason else ""
        text = f"A cancel was requested{why}; the run ends when what is executed has ended"
        yield Reason(Code.CANCELLING, text, facts.cancel_requested_at)
    for locker in facts.lockers:
        text = f"A transaction of {locker.user} ({locker.state}, pid {locker.pid}) holds a lock"
        remedy = f"SELECT pg_terminate_backend({locker.pid})"
        yield Reason(Code.LOCKED, text, locker.since, help=remedy)
    trunk = [one for one in facts.tokens if one.token.parent is None]
    branches = tuple(_grouped(facts, [one for one in facts.tokens if one.token.parent]))
    for one in trunk:
        reason = _reason(facts, one)
        yield replace(reason, inner=branches) if reason.code is Code.BRANCHES else reason


def _grouped(facts: Facts, branches: Sequence[Standing]) -> Iterator[Reason]:
    """One reason for all branches that have the same: that of the one which has it longest."""
    reasons = sorted(
        (_reason(facts, one) for one in branches),
        key=lambda reason: (reason.code, reason.since or facts.at),
    )
    for _, alike in groupby(reasons, key=lambda reason: reason.code):
        first, *others = alike
        more = f", and {len(others)} more" if others else ""
        yield replace(first, text=f"{first.text}{more}")


def _reason(facts: Facts, one: Standing) -> Reason:
    """The reason why one token does not go on."""
    reason = _waits(facts, one) or _executing(facts, one) or _later(facts, one)
    reason = reason or _in_outbox(facts, one) or _in_queue(facts, one)
    return replace(reason, unit=one.token.unit)


def _waits(facts: Facts, one: Standing) -> Reason | None:
    token, since = one.token, one.waiting_since
    is_cancelled = token.flags & Flags.CANCEL and not isinstance(token.wait, ForBranches)
    if one.claimed_by is not None or is_cancelled:  # a cancel ends any other wait at once
        return None
    match token.wait:
        case ForSignal(name):
            others = [signal for signal in facts.signals if signal != name]
            came = f"; signals of other names have come: {', '.join(others)}" if others else ""
            text = f"{token.unit} waits for the signal {name}{came}"
            remedy = _command("resume", facts, name)
            return Reason(Code.SIGNAL, text, since, one.wake_at, remedy)
        case ForTimer() if one.wake_at is not None and one.wake_at > facts.at:
            return Reason(Code.SLEEPING, f"{token.unit} sleeps", since, one.wake_at)
        case ForChild(child):
            inner = facts.children[child].reasons if child in facts.children else ()
            text = f"{token.unit} waits for the child run {child}"
            return Reason(Code.CHILD, text, since, inner=inner)
        case ForBranches(remaining=remaining) if remaining:
            text = f"{token.unit} waits for {remaining} of its branches"
            return Reason(Code.BRANCHES, text, since)
        case _:
            return None


def _executing(facts: Facts, one: Standing) -> Reason | None:
    if one.claimed_by is None:
        return None
    token = one.token
    worker = next((worker for worker in facts.workers if worker.id == one.claimed_by), None)
    if worker is None or worker.is_dead or worker.expires_at < facts.at:
        where = f" on {worker.hostname}, pid {worker.pid}," if worker else ""
        text = f"The worker{where} that executed {token.unit} is gone; another takes over"
        remedy = "" if _live_relays(facts) else _start_a_worker(one.queue)
        return Reason(Code.WORKER_LOST, text, one.since, help=remedy)
    again = f", attempt {token.attempt}{_after(token)}" if token.failures else ""
    said = f"; it last said: {one.progress}" if one.progress else ""
    where = f"{worker.hostname}, pid {worker.pid}"
    text = f"{token.unit} is being executed on {where}{again}{said}"
    return Reason(Code.EXECUTING, text, one.since, one.deadline_at)


def _later(facts: Facts, one: Standing) -> Reason | None:
    """What is not due yet: the next try of a unit, a run that begins later."""
    token = one.token
    if one.wake_at is None or one.wake_at <= facts.at or token.flags & Flags.CANCEL:
        return None
    if token.failures:
        text = f"{token.unit} is tried again, attempt {token.attempt}{_after(token)}"
        return Reason(Code.RETRYING, text, token.failures[-1].failed_at, one.wake_at)
    if not one.begun:
        return Reason(Code.DELAYED, "The run begins later", one.since, one.wake_at)
    return Reason(Code.SLEEPING, f"{token.unit} begins later", one.since, one.wake_at)


def _in_outbox(facts: Facts, one: Standing) -> Reason | None:
    """What keeps the token's message in the outbox."""
    hint, unit = one.hint, one.token.unit
    if hint is None:
        return None
    if hint.tries:
        text = f"The broker refused the message of {unit} {_times(hint.tries)}: {hint.error}"
        return Reason(Code.REFUSED, text, one.hinted_at, hint.available_at)
    relays = _live_relays(facts)
    away = [relay for relay in relays if relay.outage]
    if relays and len(away) == len(relays):
        return _cannot_publish(unit, min(away, key=lambda relay: relay.outage_since or facts.at))
    if facts.at - one.hinted_at < SOON:
        return _on_its_way(one)
    if relays:
        text = f"The message of {unit} waits for its turn to be published"
        return Reason(Code.UNPUBLISHED, text, one.hinted_at)
    text = f"The message of {unit} waits to be published, and no relay runs"
    return Reason(Code.NO_RELAY, text, one.hinted_at, help=_start_a_worker(one.queue))


def _cannot_publish(unit: str, relay: SeenRelay) -> Reason:
    text = (
        f"The message of {unit} waits to be published, and the relay on {relay.hostname},"
        f" pid {relay.pid}, cannot publish: {relay.outage}"
    )
    remedy = "Bring the broker back, or mend its URL; nothing is lost meanwhile"
    return Reason(Code.BROKER_UNAVAILABLE, text, relay.outage_since, help=remedy)


def _in_queue(facts: Facts, one: Standing) -> Reason:
    """What keeps the message in the broker, or from being followed."""
    unit, queue, waited = one.token.unit, one.queue, facts.at - one.hinted_at
    takers = [
        worker
        for worker in facts.workers
        if not (worker.draining or worker.is_dead or worker.expires_at < facts.at)
        and (not worker.queues or queue in worker.queues)
    ]
    if not takers:
        text = f"{unit} waits in the queue {queue}, which no live worker consumes"
        return Reason(Code.NO_CONSUMER, text, one.hinted_at, help=_start_a_worker(queue))
    version = version_key(facts.workflow, facts.version)
    knowing = [w for w in takers if offer_of(one.token) in w.knows.get(version, ())]
    if not knowing and not one.token.flags & Flags.CANCEL:
        what = f"{facts.workflow} version {facts.version}"
        text = f"No live worker of the queue {queue} knows {unit} of {what}"
        remedy = f"Start a worker whose code has it: celery -A <app> worker -Q {queue}"
        return Reason(Code.UNKNOWN, text, one.hinted_at, help=remedy)
    slots, busy = sum(w.slots for w in takers), sum(min(w.busy, w.slots) for w in takers)
    if busy >= slots:
        full = "the only slot is busy" if slots == 1 else f"all {slots} slots are busy"
        text = f"{unit} waits in the queue {queue}; {full}"
        return Reason(Code.BUSY, text, one.hinted_at, help=_start_a_worker(queue))
    if waited < DEAF_AFTER:
        return _on_its_way(one)
    hosts = ", ".join(sorted({worker.hostname for worker in takers}))
    text = f"{unit} waits in the queue {queue}, and {hosts} take nothing though they are free"
    remedy = f"Restart them; lost messages are sent again: {_command('recover')}"
    return Reason(Code.DEAF, text, one.hinted_at, help=remedy)


def _on_its_way(one: Standing) -> Reason:
    return Reason(Code.ON_ITS_WAY, f"{one.token.unit} is on its way to a worker", one.hinted_at)


def _live_relays(facts: Facts) -> list[SeenRelay]:
    return [one for one in facts.relays if facts.at - one.seen_at < RELAY_IS_GONE_AFTER]


def _after(token: Token) -> str:
    """`, after CardDeclined: no money`."""
    last: FailedAttempt = token.failures[-1]
    return f", after {last.error.type}: {last.error.message}"


def _start_a_worker(queue: str) -> str:
    return f"celery -A <app> worker -Q {queue}"


def _command(name: str, facts: Facts | None = None, *words: str) -> str:
    run = [str(facts.run_id)] if facts else []
    return " ".join(["celery -A <app> durable", name, *run, *words])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
