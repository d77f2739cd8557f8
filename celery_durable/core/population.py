"""The checks of `durable doctor` on relays, workers, queues and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import combinations

from celery_durable.core.finding import (
    Examination,
    Finding,
    Fleet,
    Standstill,
    Unknown,
    error,
    ok,
    unknown,
    warning,
)
from celery_durable.core.fleet import QueueInfo, WorkerInfo, WorkerState
from celery_durable.core.reason import Code, Diagnosis, Reason

BEHIND = timedelta(minutes=1)
"""What is due should be on its way, and what is ready begun, within this time."""

STUCK = frozenset(
    {
        Code.NO_RELAY,
        Code.BROKER_UNAVAILABLE,
        Code.REFUSED,
        Code.NO_CONSUMER,
        Code.UNKNOWN,
        Code.DEAF,
    }
)
"""Reasons that somebody has to do something about."""

SLOW = frozenset({Code.BUSY, Code.UNPUBLISHED, Code.WORKER_LOST, Code.LOCKED})
"""Reasons that are in order for a moment."""

START_A_RELAY = "celery -A <app> durable relay, or a worker of a durable queue"

START_A_WORKER = "celery -A <app> worker -Q "


def relays(facts: Examination) -> Iterator[Finding]:
    """A relay lives, and can publish."""
    if isinstance(facts.fleet, Unknown):
        yield unknown("relays", "Relays, workers and queues", facts.fleet)
    if not isinstance(facts.fleet, Fleet):
        return
    alive = facts.fleet.live_relays
    away = [relay for relay in alive if relay.outage]
    if not alive:
        yield _no_relay(facts.fleet)
    for relay in away:
        text = f"The relay on {relay.hostname}, pid {relay.pid}, cannot publish: {relay.outage}"
        fix = "Bring the broker back, or mend its URL there"
        yield (error if len(away) == len(alive) else warning)("relays", text, fix)
    if alive and not away:
        yield ok("relays", f"{_plural(len(alive), 'relay')} can publish")


def _no_relay(fleet: Fleet) -> Finding:
    stuck = sum(fleet.unfinished.values())
    if stuck:
        text = f"No relay runs: nothing is published for {_plural(stuck, 'unfinished run')}"
        return error("relays", text, START_A_RELAY)
    return warning("relays", "No relay runs: nothing would be published", START_A_RELAY)


def relay_lives(facts: Examination) -> Iterator[Finding]:
    """A relay lives, whatever it can do."""
    if isinstance(facts.fleet, Unknown):
        yield error("relays", f"Whether a relay runs could not be checked: {facts.fleet.why}")
    elif isinstance(facts.fleet, Fleet) and facts.fleet.live_relays:
        yield ok("relays", f"Relays that run: {len(facts.fleet.live_relays)}")
    elif facts.fleet is not None:
        yield error("relays", "No relay runs", START_A_RELAY)


def living(present: Sequence[WorkerInfo], hostname: str) -> Finding:
    """Judge whether the worker processes of a host, or of a node, live and renew their rows.

    One whose lock is free has ended, and is left out: Celery starts another.
    """
    here = [one for one in present if hostname in (one.hostname, one.hostname.rpartition("@")[2])]
    for one in here:
        if one.state is WorkerState.OVERDUE:
            text = f"The worker on {one.hostname}, pid {one.pid}, has not renewed its row in time"
            return error("live", text, "Restart it")
    alive = [one for one in here if one.state is not WorkerState.DEAD]
    if not alive:
        return error("live", f"No worker process of {hostname} lives", "Start it")
    return ok("live", f"Worker processes of {hostname} that live: {len(alive)}")


def workers(facts: Examination) -> Iterator[Finding]:
    """Somebody executes steps."""
    if not isinstance(facts.fleet, Fleet):
        return
    late = [one for one in facts.fleet.workers if one.state is WorkerState.OVERDUE]
    for one in late:
        text = f"The worker on {one.hostname}, pid {one.pid}, has not renewed its row in time"
        yield warning("workers", text, "Look whether it hangs, or cannot reach Postgres")
    alive = facts.fleet.live
    if not alive:
        text = "No worker of a durable queue lives"
        yield warning("workers", text, START_A_WORKER + ",".join(sorted(facts.needed)))
    elif not late:
        nodes = _plural(len({one.hostname for one in alive}), "node")
        slots = _plural(sum(one.slots for one in alive), "slot")
        yield ok("workers", f"Worker processes that live: {len(alive)}, of {nodes}, with {slots}")


def queues(facts: Examination) -> Iterator[Finding]:
    """Each queue that holds something, or that workflows need, has a consumer."""
    if not isinstance(facts.fleet, Fleet):
        return
    deserted = [one for one in facts.fleet.queues if one.queue and not one.workers]
    full = [one for one in deserted if one.holds_work]
    for one in full:
        text = f"No live worker consumes the queue {one.queue}: {_held(one)}"
        yield error("queues", text, f"{START_A_WORKER}{one.queue}")
    consumed = {one.queue for one in facts.fleet.queues if one.workers}
    idle = facts.needed - consumed - {one.queue for one in full}
    takes_any = any(not one.queues for one in facts.fleet.live)
    if idle and facts.fleet.live and not takes_any:
        names = ", ".join(sorted(idle))
        text = f"No live worker consumes queues that the workflows of this app need: {names}"
        yield warning("queues", text, START_A_WORKER + ",".join(sorted(idle)))
    elif not full and consumed:
        yield ok("queues", f"Each queue has a consumer: {', '.join(sorted(consumed))}")


def compensations(facts: Examination) -> Iterator[Finding]:
    """What was to be undone is undone."""
    if not isinstance(facts.fleet, Fleet):
        return
    if left := facts.fleet.not_undone:
        which = "a compensation has" if left == 1 else "compensations have"
        text = f"In {_plural(left, 'run')} {which} failed for good: what was done is not all undone"
        fix = "celery -A <app> durable list --compensation-failed; each says what helps"
        yield warning("compensations", text, fix)
    else:
        yield ok("compensations", "No compensation has failed for good")


def _held(queue: QueueInfo) -> str:
    counts = {
        "to publish": queue.due,
        "for later": queue.later,
        "published": queue.published,
        "executing": queue.claimed,
    }
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def outbox(facts: Examination) -> Iterator[Finding]:
    """What is due gets published soon, and the broker refuses nothing."""
    if not isinstance(facts.fleet, Fleet):
        return
    found, at = facts.fleet.queues, facts.fleet.at
    refused = [one for one in found if one.refused]
    for one in refused:
        text = f"The broker refuses {one.refused:,} messages for the queue {one.queue}"
        fix = "Mend what it says; they are tried again at growing intervals"
        yield error("outbox", f"{text}: {one.refusal}", fix)
    waits = [one for one in found if one.due and one.waiting_since is not None]
    late = [one for one in waits if one.waiting_since and at - one.waiting_since > BEHIND]
    for one in late:
        assert one.waiting_since is not None
        minutes = (at - one.waiting_since).total_seconds() / 60
        text = f"{one.due:,} messages for the queue {one.queue} wait to be published"
        fix = "More relays, or look why those that run are behind"
        yield warning("outbox", f"{text}, the oldest for {minutes:.0f} min", fix)
    if not refused and not late:
        due = sum(one.due for one in found)
        yield ok("outbox", f"Messages that wait to be published: {due:,}")


def versions(facts: Examination) -> Iterator[Finding]:
    """Each workflow version with unfinished runs is known to a live worker."""
    if not isinstance(facts.fleet, Fleet) or not facts.fleet.live:
        return
    known = {version for one in facts.fleet.live for version in one.knows}
    lost = {v: runs for v, runs in facts.fleet.unfinished.items() if v not in known}
    for version, runs in sorted(lost.items()):
        name, _, number = version.rpartition("@")
        has = _plural(runs, "unfinished run")
        text = f"No live worker knows {name} version {number}, which has {has}"
        yield error("versions", text, "Deploy a worker whose code defines it, or cancel the runs")
    if not lost:
        yield ok("versions", "Live workers know all workflows of unfinished runs")


def sharing(facts: Examination) -> Iterator[Finding]:
    """One schema belongs to one app: all who use it have workflows in common."""
    if not isinstance(facts.fleet, Fleet):
        return
    known = {frozenset(_names(one)): one.hostname for one in facts.fleet.live if one.knows}
    for (some, here), (others, there) in combinations(known.items(), 2):
        if not some & others:
            yield _shared(f"the workers {here} ({_listed(some)}) and {there} ({_listed(others)})")
            return
    strangers = [host for names, host in known.items() if not names & facts.defined]
    if facts.defined and strangers:
        yield _shared(f"this app and the worker {strangers[0]} have no workflow in common")
    elif known:
        yield ok("sharing", "All live workers are of one app")


def _names(worker: WorkerInfo) -> Iterator[str]:
    return (version.rpartition("@")[0] for version in worker.knows)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)[:3])


def _shared(who: str) -> Finding:
    text = f"Two apps seem to share this schema: {who}"
    return warning("sharing", text, "Give each app a durable_schema and queues of its own")


def runs(facts: Examination) -> Iterator[Finding]:
    """Unfinished runs by what keeps them."""
    match facts.standstill:
        case Unknown() as found:
            yield unknown("runs", "Why runs do not move", found)
        case Standstill() as found:
            yield ok("runs", _counted(found))
            yield from _held_by_people(found)
            yield from _by_reason(found)
        case None:
            pass


PAUSES_NAMED = 3


def _held_by_people(found: Standstill) -> Iterator[Finding]:
    """What is paused, and what waits for somebody because its tries are used up."""
    if found.exhausted:
        text = f"{_plural(found.exhausted, 'unit')} used up all tries, and wait for somebody"
        fix = "celery -A <app> durable list --status paused, then retry-now, skip or cancel"
        yield warning("exhausted", text, fix)
    if found.pauses:
        named = [f"{one.pause}{f' ({one.reason})' if one.reason else ''}" for one in found.pauses]
        more = len(named) - PAUSES_NAMED
        text = (
            f"Paused: {', '.join(named[:PAUSES_NAMED])}{f', and {more} more' if more > 0 else ''}"
        )
        yield warning("paused", text, "celery -A <app> durable pause --list, then unpause")


def _counted(found: Standstill) -> str:
    total = sum(found.counts.values())
    parts = [f"{count:,} {word}" for word, count in sorted(found.counts.items()) if count]
    more = "" if found.is_all else " or more"
    listed = f" ({', '.join(parts)})" if parts else ""
    return f"Unfinished runs: {total:,}{more}{listed}"


def _by_reason(found: Standstill) -> Iterator[Finding]:
    """One finding for each reason that somebody has to do something about, with its oldest."""
    told: dict[Code, Reason] = {}
    counts = Counter[Code]()
    for one in found.sample:
        reasons = {reason.code: reason for reason in _troubles(one, found)}
        counts.update(reasons.keys())
        for code, reason in reasons.items():
            oldest = told.setdefault(code, reason)
            if (reason.since or found.at) < (oldest.since or found.at):
                told[code] = reason
    for code, reason in told.items():
        text = f"{counts[code]} of {_plural(len(found.sample), 'sampled run')}: {reason.text}"
        yield (error if code in STUCK else warning)(f"runs.{code}", text, reason.help)


def _troubles(one: Diagnosis, found: Standstill) -> Iterator[Reason]:
    return (reason for reason in _all(one.reasons) if _is_trouble(reason, found))


def _all(reasons: Sequence[Reason]) -> Iterator[Reason]:
    for reason in reasons:
        yield reason
        yield from _all(reason.inner)


def _is_trouble(reason: Reason, found: Standstill) -> bool:
    lasts = found.at - (reason.since or found.at) > BEHIND
    return reason.code in STUCK or (reason.code in SLOW and lasts)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
