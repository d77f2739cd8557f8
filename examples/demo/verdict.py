"""What the ledger proves: how every order ended, and what is missing or doubled.

The engine is not asked. An order has a legal ending or has not (`orders.ending`); a unit that was
executed again must have been cut off by the death of its worker, and must not have been recorded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from examples.demo import ledger, orders
from examples.demo.ledger import Entry
from examples.demo.orders import Ending


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was counted, and what is wrong with it; nothing is, if `problems` is empty."""

    endings: Mapping[Ending, int]
    charges: int
    refunds: int
    steps: int
    refused: int
    take_over: float | None
    """Seconds from the kill until a unit of the dead worker was executed elsewhere."""
    problems: Sequence[str]


class Books:
    """The ledger, sorted."""

    def __init__(self, entries: Sequence[Entry], killed: Mapping[int, datetime]) -> None:
        self.entries = entries
        self.killed = killed
        self.by_run: dict[UUID, list[Entry]] = defaultdict(list)
        self._last_of: dict[int, Entry] = {}
        for entry in entries:
            self.by_run[entry.run_id].append(entry)
            self._last_of[entry.worker_pid] = entry

    def done(self, run_id: UUID) -> list[str]:
        """The units that were done for a run, in order."""
        return [each.unit for each in self.by_run[run_id] if each.outcome == ledger.DONE]

    def repeats(self, run_id: UUID) -> Iterator[tuple[Entry, Entry]]:
        """The pairs of calls of one unit of which the first was not a failure to be retried."""
        by_unit: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.by_run[run_id]:
            by_unit[entry.unit].append(entry)
        for calls in by_unit.values():
            for first, second in pairwise(calls):
                is_retry = first.outcome == ledger.FAILED and second.attempt == first.attempt + 1
                if not is_retry:
                    yield first, second

    def was_cut_off(self, entry: Entry) -> bool:
        """Whether this is the last thing that a process of a killed worker did."""
        return entry.parent_pid in self.killed and self._last_of[entry.worker_pid] is entry

    def went_on(self, run_id: UUID, since: Entry, until: Entry) -> bool:
        """Whether another unit of the run began between two calls: then the first was recorded."""
        return any(
            since.id < each.id < until.id and each.unit != since.unit
            for each in self.by_run[run_id]
        )


def judge(
    started: Mapping[UUID, int], entries: Sequence[Entry], killed: Mapping[int, datetime]
) -> Verdict:
    """The verdict on the runs that were started, each with its order's number.

    `killed` are the pids of the workers that were killed, and when.
    """
    books = Books(entries, killed)
    endings = {run_id: orders.ending(books.done(run_id)) for run_id in started}
    units = Counter(each.unit for each in entries if each.outcome == ledger.DONE)
    problems = [
        *(
            _without_ending(books, run_id, started[run_id])
            for run_id in started
            if endings[run_id] is None
        ),
        *(problem for run_id in started for problem in _doubled(books, run_id, started[run_id])),
        *_of_nobody(books, started),
    ]
    return Verdict(
        endings=Counter(each for each in endings.values() if each is not None),
        charges=units[orders.CHARGE],
        refunds=units[orders.REFUND],
        steps=units.total(),
        refused=sum(each.outcome == ledger.REFUSED for each in entries),
        take_over=_take_over(books),
        problems=problems,
    )


def _without_ending(books: Books, run_id: UUID, number: int) -> str:
    units = ", ".join(books.done(run_id)) or "nothing"
    return f"Order {number} (run {run_id}) has no legal ending. Done for it: {units}."


def _doubled(books: Books, run_id: UUID, number: int) -> Iterator[str]:
    for first, second in books.repeats(run_id):
        if not books.was_cut_off(first):
            why = f"process {first.worker_pid}, which had begun it, was not killed in it"
        elif books.went_on(run_id, first, second):
            why = "it had been recorded, since the order had gone on"
        else:
            continue
        yield f"Order {number} (run {run_id}): {first.unit} was executed twice, though {why}."


def _of_nobody(books: Books, started: Mapping[UUID, int]) -> Iterator[str]:
    for run_id in books.by_run.keys() - started.keys():
        yield f"The ledger has calls of a run that was never started: {run_id}."


def _take_over(books: Books) -> float | None:
    waits = [
        (second.at - books.killed[first.parent_pid]).total_seconds()
        for run_id in list(books.by_run)
        for first, second in books.repeats(run_id)
        if books.was_cut_off(first)
    ]
    return min(waits, default=None)
