"""Explains why a run stands where it stands: makes reasons of facts.

`explain` looks at each token of a run in the order in which a unit comes to be executed: what it
waits for, its hint in the outbox, the relay, the broker's queue, the workers. The first of these
that is not as it must be is the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from uuid import UUID

from celery_durable.core.admit import RELEASE_MAXIMUM
from celery_durable.core.compatibility import KNOWS_ALL, offer_of, version_key
from celery_durable.core.failure import FailedAttempt, attempt_text
from celery_durable.core.pause import Paused
from celery_durable.core.reason import Code, Diagnosis, Reason
from celery_durable.core.remedy import (
    command,
    end_session,
    mend_and_retry,
    start_worker,
    worker_command,
)
from celery_durable.core.situation import Consumer, Facts, SeenRelay, Standing
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.token import Flags, ForBranches, ForChild, ForOperator, ForSignal, ForTimer

SOON = timedelta(seconds=5)
"""For so long a message may be on its way without anything being wrong."""

DEAF_AFTER = timedelta(seconds=15)
"""A message that free workers have not taken for so long does not come to them."""

PUT_BACK_FOR = timedelta(seconds=RELEASE_MAXIMUM)
"""For so long at most a worker puts back what it does not know."""


def explain(facts: Facts) -> Diagnosis:
    """Explain why the run stands; there is at least one reason."""
    reasons = tuple(_of_run(facts.run_id, reason) for reason in _reasons(facts))
    return Diagnosis(facts.run_id, facts.status, facts.at, reasons)


def _of_run(run_id: UUID, reason: Reason) -> Reason:
    """Return the reason, and those of its branches, as this run's; those of a child say theirs."""
    if reason.code is not Code.CHILD:
        reason = replace(reason, inner=tuple(_of_run(run_id, one) for one in reason.inner))
    return replace(reason, run_id=run_id)


def _reasons(facts: Facts) -> Iterator[Reason]:
    if facts.status in FINISHED:
        cause = facts.cancel_reason if facts.status is Status.CANCELLED else facts.error
        why = f": {cause.rstrip('.')}" if cause else ""
        again = f"; it was tried again as run {facts.retried_as}" if facts.retried_as else ""
        by = _by(facts.cancelled_by) if facts.status is Status.CANCELLED else ""
        text = f"The run has ended, {facts.status.value}{by}{why}{again}"
        may_retry = facts.status is Status.FAILED and not facts.retried_as
        remedy = f"Mend the cause, then:\n{command('retry', facts)}" if may_retry else ""
        yield Reason(Code.ENDED, text, facts.finished_at, help=remedy)
        yield from _not_undone(facts)
        return
    if facts.cancel_requested_at is not None:
        why = f" ({facts.cancel_reason})" if facts.cancel_reason else ""
        asked = f"A cancel was requested{_by(facts.cancelled_by)}{why}"
        text = f"{asked}; the run ends when what is executed has ended"
        if facts.status is Status.COMPENSATING:
            text = f"{asked}; the run is being rolled back"
        yield Reason(Code.CANCELLING, text, facts.cancel_requested_at)
    for locker in facts.lockers:
        text = f"A transaction of {locker.user} ({locker.state}, pid {locker.pid}) holds a lock"
        remedy = f"End it there, or end its session, in SQL:\n{end_session(locker)}"
        yield Reason(Code.LOCKED, text, locker.since, help=remedy)
    yield from (_paused(pause) for pause in facts.pauses if _holds(facts, pause))
    trunk = [one for one in facts.tokens if one.token.parent is None]
    branches = tuple(_grouped(facts, [one for one in facts.tokens if one.token.parent]))
    for one in trunk:
        reason = _reason(facts, one)
        if reason.code is not Code.PAUSED:
            yield replace(reason, inner=branches) if reason.code is Code.BRANCHES else reason


def _not_undone(facts: Facts) -> Iterator[Reason]:
    """What has been left as it was, since its compensation has failed for good."""
    if not facts.not_undone or facts.retried_as:
        return
    units = ", ".join(facts.not_undone)
    remedy = f"Mend the cause, then:\n{command('retry-compensation', facts)}"
    text = f"What it has done is not all undone: {units} failed for good"
    yield Reason(Code.NOT_UNDONE, text, facts.finished_at, help=remedy)


def _holds(facts: Facts, paused: Paused) -> bool:
    """Return True if the pause keeps a token of the run from going on."""
    return any(
        one.claimed_by is None
        and not one.token.flags
        and paused.pause.covers(one.token, facts.workflow, facts.version)
        for one in facts.tokens
    )


def _paused(paused: Paused) -> Reason:
    pause = paused.pause
    why = f": {paused.reason}" if paused.reason else ""
    words = [str(pause.run_id)] if pause.run_id else []
    options = (("workflow", pause.workflow), ("version", pause.version), ("step", pause.step))
    words += [w for name, value in options if value is not None for w in (f"--{name}", str(value))]
    what = str(pause)
    text = f"{what[0].upper()}{what[1:]} is paused{_by(paused.by)}{why}"
    return Reason(Code.PAUSED, text, paused.since, help=command("unpause", None, *words))


def _by(name: str | None) -> str:
    return f" by {name}" if name else ""


def _grouped(facts: Facts, branches: Sequence[Standing]) -> Iterator[Reason]:
    """One reason for all branches that have the same: that of the one which has it longest."""
    reasons = sorted(
        (_reason(facts, one) for one in branches),
        key=lambda reason: (reason.code, reason.since or facts.at),
    )
    reasons = [reason for reason in reasons if reason.code is not Code.PAUSED]
    for _, alike in groupby(reasons, key=lambda reason: reason.code):
        first, *others = alike
        more = f" (and {len(others)} more like it)" if others else ""
        yield replace(first, text=f"{first.text}{more}")


def _reason(facts: Facts, one: Standing) -> Reason:
    """The reason why one token does not go on."""
    one = _arrived(facts, one)
    reason = _waits(facts, one) or _executing(facts, one) or _later(facts, one)
    reason = reason or _held(facts, one) or _in_outbox(facts, one) or _in_queue(facts, one)
    return replace(reason, unit=one.token.unit)


def _arrived(facts: Facts, one: Standing) -> Standing:
    """The same, or that what it waits for has come and a worker only has to look."""
    match one.token.wait:
        case ForSignal(name) if name in facts.signals:
            return one.arrived(facts.signals[name])
        case ForChild(child) if child in facts.children:
            ended, *_ = facts.children[child].reasons
            is_over = ended.code is Code.ENDED and ended.since is not None
            return one.arrived(ended.since or facts.at) if is_over else one
        case _:
            return one


def _held(facts: Facts, one: Standing) -> Reason | None:
    """The first pause that keeps the token from being claimed."""
    covering = (
        paused
        for paused in facts.pauses
        if paused.pause.covers(one.token, facts.workflow, facts.version)
    )
    first = next(covering, None)
    return None if first is None or one.token.flags else _paused(first)


def _waits(  # noqa: PLR0911 - a table of cases
    facts: Facts, one: Standing
) -> Reason | None:
    token, since = one.token, one.waiting_since
    is_cancelled = token.flags & Flags.CANCEL and not isinstance(token.wait, ForBranches)
    if one.claimed_by is not None or one.came_at is not None or is_cancelled:
        return None  # a cancel ends any other wait at once
    match token.wait:
        case ForSignal(name):
            others = ", ".join(sorted(facts.signals))
            came = f"; signals of other names have come: {others}" if others else ""
            refused = facts.refusals.get(name)
            wrong = f"; the last one was refused: {refused}" if refused else ""
            text = f"{token.unit} waits for the signal {name}{wrong}{came}"
            remedy = command("resume", facts, name)
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
        case ForOperator() if not token.flags:
            text = f"{token.unit} has used up its tries, {_attempt(one)}"
            remedy = mend_and_retry(facts, token)
            return Reason(Code.EXHAUSTED, text, since, help=remedy)
        case _:
            return None


def _executing(facts: Facts, one: Standing) -> Reason | None:
    if one.claimed_by is None:
        return None
    token = one.token
    worker = next((worker for worker in facts.workers if worker.id == one.claimed_by), None)
    if worker is None or not worker.is_live(facts.at):
        where = f" on {worker.hostname}, pid {worker.pid}," if worker else ""
        gone = f"The worker{where} that executed {token.unit} is gone"
        if _live_relays(facts):
            return Reason(Code.WORKER_LOST, f"{gone}; another takes over", one.since)
        text, remedy = f"{gone}, and no other is there", start_worker(facts, one.queue)
        return Reason(Code.WORKER_LOST, text, one.since, help=remedy)
    again = f", {_attempt(one)}" if token.failures else ""
    if token.crashes:
        again += f"; before, its worker died {_times(token.crashes)}"
    said = f"; it last said: {one.progress}" if one.progress else ""
    where = f"{worker.hostname}, pid {worker.pid}"
    text = f"{token.unit} is being executed on {where}{again}{said}"
    return Reason(Code.EXECUTING, text, one.since, one.deadline_at)


def _later(facts: Facts, one: Standing) -> Reason | None:
    """What is not due yet: the next try of a unit, a run that begins later."""
    token = one.token
    if one.wake_at is None or one.wake_at <= facts.at or token.flags & Flags.CANCEL:
        return None
    if one.wake_at - facts.at <= PUT_BACK_FOR and (unknown := _unknown(facts, one)):
        return unknown
    if token.failures:
        text = f"{token.unit} is tried again, {_attempt(one)}"
        failed_at, remedy = token.failures[-1].failed_at, mend_and_retry(facts, token)
        return Reason(Code.RETRYING, text, failed_at, one.wake_at, remedy)
    if facts.status is Status.PENDING:
        return Reason(Code.DELAYED, "The run begins later", one.since, one.wake_at)
    return Reason(Code.SLEEPING, f"{token.unit} begins later", one.since, one.wake_at)


def _in_outbox(facts: Facts, one: Standing) -> Reason | None:
    """What keeps the token's message in the outbox."""
    hint, unit = one.hint, one.token.unit
    if hint is None:
        return None
    if hint.tries:
        text = f"The broker refused the message of {unit} {_times(hint.tries)}: {hint.error}"
        return Reason(Code.REFUSED, text, one.due_at, hint.available_at)
    relays = _live_relays(facts)
    away = [relay for relay in relays if relay.outage]
    if relays and len(away) == len(relays):
        return _cannot_publish(unit, min(away, key=lambda relay: relay.outage_since or facts.at))
    if facts.at - one.due_at < SOON:
        return _on_its_way(one)
    if relays:
        text = f"The message of {unit} waits for its turn to be published"
        return Reason(Code.UNPUBLISHED, text, one.due_at)
    text = f"The message of {unit} waits to be published, and no relay runs"
    return Reason(Code.NO_RELAY, text, one.due_at, help=start_worker(facts, one.queue))


def _cannot_publish(unit: str, relay: SeenRelay) -> Reason:
    text = (
        f"The message of {unit} waits to be published, and the relay on {relay.hostname},"
        f" pid {relay.pid}, cannot publish: {relay.outage}"
    )
    remedy = "Bring the broker back, or mend its URL; nothing is lost meanwhile"
    return Reason(Code.BROKER_UNAVAILABLE, text, relay.outage_since, help=remedy)


def _in_queue(facts: Facts, one: Standing) -> Reason:
    """What keeps the message in the broker, or from being followed."""
    unit, queue = one.token.unit, one.queue
    remedy = start_worker(facts, queue)
    takers = _takers(facts, one)
    if not takers:
        text = f"{unit} waits in the queue {queue}, which no live worker consumes"
        return Reason(Code.NO_CONSUMER, text, one.due_at, help=remedy)
    if unknown := _unknown(facts, one):
        return unknown
    slots, busy = sum(w.slots for w in takers), sum(min(w.busy, w.slots) for w in takers)
    if busy >= slots:
        full = "the only slot is busy" if slots == 1 else f"all {slots} slots are busy"
        text = f"{unit} waits in the queue {queue}; {full}"
        return Reason(Code.BUSY, text, one.due_at, help=remedy)
    if facts.at - one.due_at < DEAF_AFTER:
        return _on_its_way(one)
    if any(w.took_at is not None and w.took_at > one.due_at for w in takers):
        text = f"{unit} waits in the queue {queue} for its turn; {busy} of {slots} slots are busy"
        return Reason(Code.BUSY, text, one.due_at, help=remedy)
    return _deaf(one, sorted({worker.hostname for worker in takers}))


def _takers(facts: Facts, one: Standing) -> list[Consumer]:
    return [worker for worker in facts.workers if worker.takes(one.queue, facts.at)]


def _unknown(facts: Facts, one: Standing) -> Reason | None:
    """What is said where workers take the token, and put it back because none knows its unit.

    Since when it is so, nobody knows: each time that it is put back it is as if it were new.
    """
    version = version_key(facts.workflow, facts.version)
    takers = _takers(facts, one)
    is_known = any(
        KNOWS_ALL in worker.knows or offer_of(one.token) in worker.knows.get(version, ())
        for worker in takers
    )
    if not takers or is_known or one.token.flags & Flags.CANCEL:
        return None
    what = f"{one.token.unit} of {facts.workflow} version {facts.version}"
    text = f"No live worker of the queue {one.queue} knows {what}"
    remedy = f"Restart them with code that has it:\n{worker_command(one.queue)}"
    return Reason(Code.UNKNOWN, text, help=remedy)


def _deaf(one: Standing, hosts: Sequence[str]) -> Reason:
    them, take, they_are = (
        ("it", "takes", "it is") if len(hosts) == 1 else ("them", "take", "they are")
    )
    who = ", ".join(hosts)
    nobody = f"{who} {take} nothing though {they_are} free"
    text = f"{one.token.unit} waits in the queue {one.queue}, and {nobody}"
    remedy = f"Restart {them}; messages that are lost are sent again by:\n{command('recover')}"
    return Reason(Code.DEAF, text, one.due_at, help=remedy)


def _on_its_way(one: Standing) -> Reason:
    return Reason(Code.ON_ITS_WAY, f"{one.token.unit} is on its way to a worker", one.due_at)


def _live_relays(facts: Facts) -> list[SeenRelay]:
    return [one for one in facts.relays if one.is_live(facts.at)]


def _attempt(one: Standing) -> str:
    """`attempt 2 of 5, after CardDeclined: no money`."""
    last: FailedAttempt = one.token.failures[-1]
    attempt = attempt_text(one.token.attempt, one.max_attempts)
    return f"{attempt}, after {last.error.type}: {last.error.message}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
