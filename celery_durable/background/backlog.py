"""What a relay takes next: by priority, then fairly between runs, then by age.

It costs the same however much waits, and however many rows that are gone are still in the indexes:
a relay remembers how far it has come in each lane, and begins a little before. Whoever commits late
has older ids; what they put is found by a look at everything, which comes as often as it is cheap.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from celery_durable.store import due
from celery_durable.store.connection import Connection
from celery_durable.store.due import NOTHING, Lane, Message

LAG = 1.0
"""Seconds of what was seen last that are looked at again: ids become visible out of order."""

SWEEP_EVERY = 0.4
"""Seconds between looks at everything, at least."""

SWEEP_SHARE = 0.01
"""The share of its time that a relay gives to looks at everything, at most."""

EVER = 1e9
LAST = 2**63 - 1


class Mark:
    """An id that was reached, and where to begin: at what had been reached a while ago."""

    def __init__(self, reached: int) -> None:
        self.start = self._before = self.reached = reached

    def reach(self, id: int) -> None:
        """Everything up to `id` has been taken, or is in others' hands."""
        self.reached = max(self.reached, id)

    def move_on(self) -> None:
        """Another `LAG` has passed."""
        self.start, self._before = self._before, self.reached


class Progress:
    """How far a relay has come in a lane.

    `is_open`: there may be more in it. `late_after`: rows have come late, after this id.
    """

    def __init__(self, first: int) -> None:
        self.mark = Mark(first - 1)
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
        """Forget how far it has come: what was taken has not been sent."""
        self._front = Mark(0)
        self._lanes: dict[Lane, Progress] = {}
        self._moved_at = self._sweep_at = time.monotonic()
        self._none_came_at = -math.inf
        self._saw_some = False
        self._taken: dict[int, Lane] = {}
        self.sight = NOTHING

    @property
    def seconds_to_sweep(self) -> float:
        """How long until it is worth looking at everything: what others had in hand when this was
        done last may be theirs no more. Infinity where there was nothing.
        """
        return self._sweep_at - time.monotonic() if self._saw_some else math.inf

    def look(self, connection: Connection, batch: int, paused: Collection[str] = ()) -> bool:
        """See whether there is something to take, but for the queues that are `paused`.

        What has a time that has come is put in a lane first.
        """
        back = self._see(connection)
        if self.sight.has_come and due.call(connection, back, batch):
            self._see(connection)
        for progress in self._lanes.values():
            progress.cursor = progress.mark.start
        return any(True for _ in self._open_by_priority(paused))

    def _see(self, connection: Connection) -> float:
        """Look at what is new, or from time to time at everything; the seconds it went back for
        what has a time.
        """
        now = time.monotonic()
        if now - self._moved_at >= LAG:
            self._moved_at = now
            for mark in (self._front, *(progress.mark for progress in self._lanes.values())):
                mark.move_on()
        sweeps = now >= self._sweep_at
        back = EVER if sweeps else min(now - self._none_came_at + LAG, EVER)
        self.sight = due.look(connection, None if sweeps else self._front.start, back)
        if sweeps:
            took = time.monotonic() - now
            self._sweep_at = now + max(SWEEP_EVERY, took / SWEEP_SHARE)
            self._saw_some = bool(self.sight.lanes)
        if not self.sight.has_come:
            self._none_came_at = now
        self._note()
        return back

    def _note(self) -> None:
        for lane, (first, last) in self.sight.lanes.items():
            self._front.reach(last)
            progress = self._lanes.setdefault(lane, Progress(first))
            progress.is_open = True
            if first <= progress.mark.start:
                progress.late_after = first - 1

    def take(
        self, connection: Connection, batch: int, paused: Collection[str] = ()
    ) -> Sequence[Message]:
        """Lock up to `batch` rows. Of several that say the same, one is left.

        The others are removed: whatever they were put for, it had been committed by now.
        """
        taken: list[Message] = []
        self._taken.clear()
        for lanes in self._open_by_priority(paused):
            taken += self._take_fairly(connection, lanes, batch - len(taken))
        said = {message.says: message for message in reversed(taken)}
        left = [message for message in taken if said[message.says] is message]
        if len(left) < len(taken):
            kept = {message.id for message in left}
            due.delete(connection, [message.id for message in taken if message.id not in kept])
        return left

    def give_back(self, ids: Iterable[int]) -> None:
        """These were taken and stay where they are."""
        for row in ids:
            progress = self._lanes[self._taken[row]]
            progress.is_open = True
            progress.late_after = min(row - 1, progress.late_after or row)

    def _open_by_priority(self, paused: Collection[str]) -> Iterator[list[Lane]]:
        lanes = [lane for lane, progress in self._lanes.items() if progress.is_open]
        lanes = [lane for lane in lanes if lane.queue not in paused]
        lanes.sort(key=self._place)
        for _, group in groupby(lanes, key=lambda lane: lane.priority):
            yield list(group)

    def _place(self, lane: Lane) -> tuple[int, int, int]:
        return self._direction * lane.priority, lane.crowd, self._lanes[lane].cursor

    def _take_fairly(
        self, connection: Connection, lanes: Sequence[Lane], room: int
    ) -> Sequence[Message]:
        """The same from each lane, and what one leaves over from the others."""
        taken: list[Message] = []
        while lanes and len(taken) < room:
            for n, lane in enumerate(lanes):
                share = math.ceil((room - len(taken)) / (len(lanes) - n))
                if share:
                    taken += self._take_from(connection, lane, share)
            lanes = [lane for lane in lanes if self._lanes[lane].is_open]
        return taken

    def _take_from(self, connection: Connection, lane: Lane, count: int) -> Sequence[Message]:
        taken = self._next_of(connection, lane, count)
        self._taken |= {message.id: lane for message in taken}
        return taken

    def _next_of(self, connection: Connection, lane: Lane, count: int) -> Sequence[Message]:
        progress = self._lanes[lane]
        taken: list[Message] = []
        if progress.late_after is not None:
            late, until = progress.late_after, progress.mark.start
            taken += due.take(connection, lane, late, until, count)
            progress.late_after = taken[-1].id if len(taken) == count else None
        if len(taken) == count:
            return taken
        more = due.take(connection, lane, progress.cursor, LAST, count - len(taken))
        if more:
            progress.cursor = more[-1].id
            progress.mark.reach(progress.cursor)
        if len(taken) + len(more) < count:
            # What had been seen by now is taken, or in others' hands.
            progress.is_open = False
            progress.mark.reach(self._front.reached)
        return [*taken, *more]
