"""Decides which rows a relay takes next: by priority, then fairly between runs, then by age.

The cost does not grow with the rows that wait, nor with the deleted rows that are still in the
indexes: a relay remembers how far it has come in each lane, and begins a little before. A
transaction that commits late has put rows with older ids. A sweep, a look at all rows, finds these;
it comes as often as it is cheap.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from celery_durable.store import due
from celery_durable.store.connection import Connection
from celery_durable.store.due import NOTHING, DueMessage, Lane

LAG = 1.0
"""Seconds by which a look goes back behind the last one: ids become visible out of order."""

SWEEP_EVERY = 0.4
"""The least seconds between sweeps."""

SWEEP_SHARE = 0.01
"""The largest share of its time that a relay spends on sweeps."""

EVER = 1e9
"""Seconds that go back behind every row."""

LAST = 2**63 - 1
"""The largest id."""


class Watermark:
    """The id that was reached, and `start`, which was reached at least `LAG` ago."""

    def __init__(self, reached: int) -> None:
        self.start = self._before = self.reached = reached

    def reach(self, id: int) -> None:
        """Note that every row up to `id` has been taken, here or by another relay."""
        self.reached = max(self.reached, id)

    def move_on(self) -> None:
        """Note that another `LAG` has passed."""
        self.start, self._before = self._before, self.reached


class LaneProgress:
    """How far a relay has come in a lane.

    `is_open`: there may be more rows in it. `late_after`: rows with ids above it have come late.
    """

    def __init__(self, first: int) -> None:
        self.watermark = Watermark(first - 1)
        self.cursor = first - 1
        self.late_after: int | None = None
        self.is_open = True


class Backlog:
    """The due rows, as one relay sees them.

    `lowest_first`: the broker takes the lowest number for the highest priority, as Redis does.
    """

    def __init__(self, *, lowest_first: bool = False) -> None:
        self._direction = 1 if lowest_first else -1
        self.start_over()

    def start_over(self) -> None:
        """Forget how far the relay has come: rows that were taken have not been sent."""
        self._front = Watermark(0)
        self._lanes: dict[Lane, LaneProgress] = {}
        self._moved_at = self._sweep_at = time.monotonic()
        self._none_came_at = -math.inf
        self._saw_some = False
        self._taken: dict[int, Lane] = {}
        self.sight = NOTHING

    @property
    def seconds_to_sweep(self) -> float:
        """The seconds until the next sweep; infinity if the last one found nothing.

        Rows that other relays had locked then may be free by that time.
        """
        return self._sweep_at - time.monotonic() if self._saw_some else math.inf

    def look(self, connection: Connection, batch: int, paused: Collection[str] = ()) -> bool:
        """Return True if there are rows to take for queues that are not `paused`.

        Moves rows whose time has come into their lanes first.
        """
        back = self._see(connection)
        if self.sight.has_come and due.move_into_lanes(connection, back, batch):
            self._see(connection)
        for progress in self._lanes.values():
            progress.cursor = progress.watermark.start
        return any(True for _ in self._open_by_priority(paused))

    def _see(self, connection: Connection) -> float:
        """Look at what is new, or sweep when it is time; return the seconds that it went back for
        rows that have a time.
        """
        now = time.monotonic()
        if now - self._moved_at >= LAG:
            self._moved_at = now
            for watermark in (
                self._front,
                *(progress.watermark for progress in self._lanes.values()),
            ):
                watermark.move_on()
        sweeps = now >= self._sweep_at
        back = EVER if sweeps else min(now - self._none_came_at + LAG, EVER)
        self.sight = due.look(connection, self._front.start, back, everything=sweeps)
        if sweeps:
            took = time.monotonic() - now
            self._sweep_at = now + max(SWEEP_EVERY, took / SWEEP_SHARE)
            self._saw_some = bool(self.sight.lanes)
        if not self.sight.has_come:
            self._none_came_at = now
        self._note()
        return back

    def _note(self) -> None:
        if self.sight.newest is not None:
            # A row with a time gets a new id when that has come: no look need go back behind it.
            self._front.reach(self.sight.newest)
        for lane, (first, last) in self.sight.lanes.items():
            self._front.reach(last)
            progress = self._lanes.setdefault(lane, LaneProgress(first))
            progress.is_open = True
            if first <= progress.watermark.start:
                progress.late_after = first - 1

    def take(
        self, connection: Connection, batch: int, paused: Collection[str] = ()
    ) -> Sequence[DueMessage]:
        """Lock up to `batch` rows; keep the first of hints that say the same, delete the others.

        Nothing is lost: what the others were put for is committed by now, too.
        """
        taken: list[DueMessage] = []
        self._taken.clear()
        for lanes in self._open_by_priority(paused):
            taken += self._take_fairly(connection, lanes, batch - len(taken))
        said = {message.says: message for message in reversed(taken)}
        left = [message for message in taken if said[message.says] is message]
        if len(left) < len(taken):
            kept = {message.id for message in left}
            due.delete(connection, [message.id for message in taken if message.id not in kept])
        return left

    def left_in(self, queue: str) -> int:
        """Return how many rows of the queue are due beyond those taken, at most: ids have gaps."""
        return sum(
            max(self.sight.lanes[lane][1] - progress.cursor, 0)
            for lane, progress in self._lanes.items()
            if lane.queue == queue and progress.is_open and lane in self.sight.lanes
        )

    def keep(self, ids: Iterable[int]) -> None:
        """Note that these rows were taken and stay in the outbox."""
        for row in ids:
            progress = self._lanes[self._taken[row]]
            progress.is_open = True
            progress.late_after = min(row - 1, progress.late_after or row)

    def _open_by_priority(self, paused: Collection[str]) -> Iterator[list[Lane]]:
        lanes = [lane for lane, progress in self._lanes.items() if progress.is_open]
        lanes = [lane for lane in lanes if lane.queue not in paused]
        lanes.sort(key=self._rank)
        for _, group in groupby(lanes, key=lambda lane: lane.priority):
            yield list(group)

    def _rank(self, lane: Lane) -> tuple[int, int, int]:
        return self._direction * lane.priority, lane.crowd, self._lanes[lane].cursor

    def _take_fairly(
        self, connection: Connection, lanes: Sequence[Lane], room: int
    ) -> Sequence[DueMessage]:
        """Take the same number from each lane; what one lane does not use, the others get."""
        taken: list[DueMessage] = []
        while lanes and len(taken) < room:
            for n, lane in enumerate(lanes):
                share = math.ceil((room - len(taken)) / (len(lanes) - n))
                if share:
                    taken += self._take_from(connection, lane, share)
            lanes = [lane for lane in lanes if self._lanes[lane].is_open]
        return taken

    def _take_from(self, connection: Connection, lane: Lane, count: int) -> Sequence[DueMessage]:
        taken = self._next_of(connection, lane, count)
        self._taken |= {message.id: lane for message in taken}
        return taken

    def _next_of(self, connection: Connection, lane: Lane, count: int) -> Sequence[DueMessage]:
        progress = self._lanes[lane]
        taken: list[DueMessage] = []
        if progress.late_after is not None:
            late, until = progress.late_after, progress.watermark.start
            taken += due.take(connection, lane, late, until, count)
            progress.late_after = taken[-1].id if len(taken) == count else None
        if len(taken) == count:
            return taken
        more = due.take(connection, lane, progress.cursor, LAST, count - len(taken))
        if more:
            progress.cursor = more[-1].id
            progress.watermark.reach(progress.cursor)
        if len(taken) + len(more) < count:
            # Every row seen by now has been taken, here or by another relay.
            progress.is_open = False
            progress.watermark.reach(self._front.reached)
        return [*taken, *more]
