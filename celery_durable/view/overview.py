"""What goes through, what fails, what waits, who works, and whether anything is behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from celery_durable.core import population
from celery_durable.core.finding import Examination, Finding, Fleet, Severity, warning
from celery_durable.core.fleet import Executing, QueueInfo, WorkerInfo, WorkerState
from celery_durable.core.pause import Paused
from celery_durable.core.population import BEHIND
from celery_durable.core.situation import SeenRelay
from celery_durable.core.status import Status
from celery_durable.durable import Durable
from celery_durable.store import pauses
from celery_durable.store.read import facts, fleet, gauges, traffic
from celery_durable.store.read.traffic import Failures, Lately, Unfinished

CHECKS = (population.relays, population.queues, population.outbox, population.compensations)
"""The checks of `doctor` that say whether anything is behind, and ask nobody but Postgres."""


@dataclass(frozen=True, slots=True)
class WorkerNode:
    """One Celery worker: how many processes it has in each state, and what they have in hand.

    `longest` is what one of them has executed longest.
    """

    hostname: str
    states: Mapping[WorkerState, int]
    slots: int
    busy: int
    queues: Sequence[str]
    longest: Executing | None


def _node(hostname: str, processes: Sequence[WorkerInfo]) -> WorkerNode:
    executing = [one for process in processes for one in process.executing]
    return WorkerNode(
        hostname=hostname,
        states=Counter(one.state for one in processes),
        slots=sum(one.slots for one in processes),
        busy=sum(one.busy for one in processes),
        queues=sorted({queue for one in processes for queue in one.queues}),
        longest=min(executing, key=lambda one: one.since, default=None),
    )


@dataclass(frozen=True, slots=True)
class Overview:
    """All runs at one moment, `at`. Counts have bounds; see `store.read.traffic`."""

    at: datetime
    unfinished: Unfinished
    ended: Mapping[Status, int]
    started: Lately
    ended_lately: Mapping[Status, Lately]
    failures: Sequence[Failures]
    workers: Sequence[WorkerInfo]
    queues: Sequence[QueueInfo]
    relays: Sequence[SeenRelay]
    pauses: Sequence[Paused]
    not_undone: int

    @property
    def mark(self) -> object:
        """By this two looks are compared: it is the same as long as nothing but time has passed."""
        counts = self.unfinished, self.ended, self.started, self.ended_lately
        workers = [(one.id, one.state, one.busy, one.executing) for one in self.workers]
        return counts, self.failures, workers, self.queues, self.pauses, self.behind

    def paces(self) -> Sequence[tuple[str, int]]:
        """How many begin, and end so, in an hour, where there are more than were counted."""
        all_of_them = {"started": self.started}
        all_of_them |= {status.value: one for status, one in self.ended_lately.items()}
        paces = ((title, one.pace(self.at)) for title, one in all_of_them.items())
        return [(title, pace) for title, pace in paces if pace is not None]

    @property
    def nodes(self) -> Sequence[WorkerNode]:
        """The workers, by the Celery worker that their processes belong to."""
        by_name = sorted(self.workers, key=lambda one: one.hostname)
        grouped = groupby(by_name, key=lambda one: one.hostname)
        return [_node(name, [*processes]) for name, processes in grouped]

    @property
    def behind(self) -> Sequence[Finding]:
        """What keeps runs from going on as they should; empty if nothing is behind."""
        total = sum(one.runs for one in self.unfinished.standing)
        found = Fleet(self.at, self.workers, self.relays, self.queues, {"": total}, self.not_undone)
        judged = (finding for check in CHECKS for finding in check(Examination(fleet=found)))
        late = (finding for finding in judged if finding.severity is not Severity.OK)
        return [*late, *_waiting(self.queues, self.at)]


def _waiting(queues: Sequence[QueueInfo], at: datetime) -> Iterator[Finding]:
    """Queues whose workers are there, and do not come after."""
    for queue in queues:
        since = queue.waiting_since
        if not queue.published or not queue.workers or since is None or at - since < BEHIND:
            continue
        minutes = (at - since).total_seconds() / 60
        text = (
            f"{queue.published:,} units wait in the queue {queue.queue} for a worker, the oldest"
            f" for {minutes:.0f} min; {queue.busy} of {queue.slots} slots are busy"
        )
        yield warning("queues", text, f"More workers: celery -A <app> worker -Q {queue.queue}")


def read_overview(durable: Durable) -> Overview:
    """Read all of it, in one snapshot."""
    with durable.database.read_only() as connection:
        at = traffic.now(connection)
        workers = fleet.workers(connection)
        return Overview(
            at=at,
            unfinished=traffic.unfinished(connection),
            ended=traffic.ended(connection),
            started=traffic.started_lately(connection, at),
            ended_lately=traffic.ended_lately(connection, at),
            failures=traffic.failures(connection, at),
            workers=workers,
            queues=fleet.queues(connection, workers),
            relays=facts.relays_seen(connection),
            pauses=pauses.listed(connection),
            not_undone=gauges.not_compensated(connection),
        )
