"""Walking all schedules of a scenario, depth first; a state seen before is not walked again."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from celery_durable.core.status import Status
from tests.model.bench import Bench, next_time, to_reap
from tests.model.hands import Call, Script
from tests.model.laws import (
    Broken,
    check_end,
    check_reasons,
    check_step,
    holds,
    status_changes,
)
from tests.model.stage import Record
from tests.model.world import Limits, Seat, World

MOVES_TO_SETTLE = 400

MOST_TOGETHER = 2
"""Tokens in a bundle."""

LOSE_ALL_EVERY = 32
"""After so many states, all workers die and all messages are lost in one of them."""

EXPLAIN_EVERY = 8
"""After so many states, it is asked why the runs stand."""

Move = tuple[str, Callable[[], World]]


@dataclass
class Coverage:
    """What an exploration has seen. A schedule ends where nothing is left to do, or where it meets
    a state that another has been through."""

    scenario: str
    states: int = 0
    schedules: int = 0
    moves: int = 0
    ends: int = 0
    seconds: float = 0.0
    is_whole: bool = True
    statuses: set[tuple[str, ...]] = field(default_factory=set)
    changes: set[tuple[Status, Status]] = field(default_factory=set)

    def add(self, other: Coverage) -> None:
        """Sum up."""
        for name in ("states", "schedules", "moves", "ends", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        return (
            f"{self.scenario:<56} {self.states:>6} states {self.schedules:>6} schedules"
            f" {self.moves:>6} moves {self.seconds:6.1f} s{'' if self.is_whole else ', cut short'}"
        )


class Violation(AssertionError):
    """A law that a schedule breaks, with the schedule."""


class Explorer:
    """One exploration of one scenario."""

    def __init__(self, bench: Bench, coverage: Coverage, seconds: float = math.inf) -> None:
        self._until = time.monotonic() + seconds
        self.bench, self.coverage = bench, coverage
        self._seen: set[int] = set()
        self._trail: list[str] = []
        self._plans = bench.plans

    def explore(self, limits: Limits) -> None:
        world = self._begin(limits)
        self._seen.add(world.key())
        self.coverage.states += 1
        try:
            self._walk(world, 0)
        except Exception as error:
            raise Violation(self._report(error)) from error

    def _begin(self, limits: Limits) -> World:
        world = self.bench.begin(limits)
        while self.bench.scenario.begins_parked:
            seat = world.seats[0]
            self.bench.stage.mark("parking")
            if seat.script is not None:
                world, _ = self.bench.go_on(world, seat)
            elif hints := due_hints(world):
                world = self.bench.deliver(world, seat, hints[0], again=False)
            else:
                break
        return world

    def _walk(self, world: World, depth: int) -> None:
        mark = f"depth{depth}"
        self.bench.stage.mark(mark)
        if self.coverage.states % EXPLAIN_EVERY == 0:
            runs = [UUID(run["id"]) for run in world.tables.run]
            check_reasons(world, self.bench.stage.explain(runs))
        if self.coverage.states % LOSE_ALL_EVERY == 0:
            self._without_the_broker(world)
            self.bench.stage.back_to(mark)
        is_end = True
        for name, move in self.moves(world):
            if time.monotonic() >= self._until:
                self.coverage.is_whole = False
                return
            if not is_end:
                self.bench.stage.back_to(mark)
            is_end = False
            self._trail.append(name)
            after = move()
            self.coverage.moves += 1
            key = after.key()
            if key in self._seen:
                self.coverage.schedules += 1
            else:
                self._seen.add(key)
                self.coverage.states += 1
                self._walk(after, depth + 1)
            self._trail.pop()
        if is_end:
            self.coverage.schedules += 1
            self.coverage.ends += 1
            self._end(world)

    def wander(self, limits: Limits, chosen: Sequence[int]) -> None:
        """One schedule: of the moves that may be made, those that are chosen; then the end."""
        world = self.bench.begin(limits)
        try:
            for number in chosen:
                moves = list(self.moves(world))
                if not moves:
                    break
                name, move = moves[number % len(moves)]
                self._trail.append(name)
                self.bench.stage.mark("wandering")
                world = move()
            self._end(world)
        except Exception as error:
            raise Violation(self._report(error)) from error

    def moves(self, world: World) -> Iterator[Move]:
        """What may happen next."""
        bench = self.bench
        yield from self._of_workers(world)
        for place, act in enumerate(bench.scenario.acts):
            state = world.acts[place]
            if state != "done" and (act.after is None or act.after in world.asked):
                verb = "goes on" if state else "begins"
                yield f"{act.name} {verb}", self._checked(world, bench.act, place)
        if to_reap(world):
            yield "reap", self._checked(world, bench.reap)
        if world.is_damaged and world.left.recoveries:
            left = replace(world.left, recoveries=world.left.recoveries - 1)
            yield "recover", self._checked(replace(world, left=left), bench.recover)
        if next_time(world) is not None:
            yield "time passes", self._checked(world, bench.pass_time)

    def _of_workers(self, world: World) -> Iterator[Move]:
        bench, left = self.bench, world.left
        for seat in world.seats:
            if seat.script is None:
                continue
            yield f"{seat.name} goes on", self._going_on(world, seat)
            if left.crashes and has_claim(world, seat):
                yield f"{seat.name} crashes", self._checked(world, bench.crash, seat)
            if left.zombies and bench_can_be_suspected(world, seat):
                yield f"{seat.name} is suspected", self._checked(world, bench.suspect, seat)
            if left.answers:
                less = replace(world, left=replace(left, answers=0), is_damaged=True)
                yield (
                    f"{seat.name} goes on and misses the answer",
                    self._going_on(less, seat, loses_answer=True),
                )
        idle = next((seat for seat in world.seats if seat.script is None), None)
        yield from self._deliveries(world, idle)

    def _deliveries(self, world: World, idle: Seat | None) -> Iterator[Move]:
        left, bench = world.left, self.bench
        if idle is not None and bench.scenario.bundles:
            yield from self._bundles(world, idle)
        for hint in due_hints(world):
            name = ", ".join(str(world.name(token)) for token in hint["args"])
            if idle is not None:
                yield f"{idle.name} gets {name}", self._delivered(world, idle, hint)
                if left.duplicates:
                    less = replace(world, left=replace(left, duplicates=left.duplicates - 1))
                    yield (
                        f"{idle.name} gets {name}, which stays",
                        self._delivered(less, idle, hint, again=True),
                    )
            if left.losses:
                yield f"{name} is lost", self._checked(world, bench.lose, hint)

    def _bundles(self, world: World, seat: Seat) -> Iterator[Move]:
        """One message for all that may share one; and one for each of those that stay, too."""
        hints = [hint for hint in due_hints(world) if not hint["single"]]
        if len(hints) < MOST_TOGETHER:
            return
        # The run that clients speak to is not the first of the two to be executed.
        hints = hints[:MOST_TOGETHER][::-1]
        names = ", ".join(str(world.name(token)) for hint in hints for token in hint["args"])

        def move(world: World, *, again: bool) -> Callable[[], World]:
            return self._checked(
                world, lambda w: self.bench.deliver_together(w, seat, hints, again=again)
            )

        yield f"{seat.name} gets {names} together", move(world, again=False)
        if world.left.duplicates:
            left = replace(world.left, duplicates=world.left.duplicates - 1)
            less = replace(world, left=left)
            yield f"{seat.name} gets {names} together, which stay", move(less, again=True)

    def _going_on(
        self, world: World, seat: Seat, *, loses_answer: bool = False
    ) -> Callable[[], World]:
        def move() -> World:
            after, calls = self.bench.go_on(world, seat, loses_answer=loses_answer)
            now = next(s for s in after.seats if s.name == seat.name)
            self._check(world, after, calls if after.is_live(now.worker) else ())
            return after

        return move

    def _delivered(
        self, world: World, seat: Seat, hint: Record, *, again: bool = False
    ) -> Callable[[], World]:
        def move() -> World:
            after = self.bench.deliver(world, seat, hint, again=again)
            self._check(world, after)
            return after

        return move

    def _checked(
        self, world: World, do: Callable[..., World], *arguments: object
    ) -> Callable[[], World]:
        def move() -> World:
            after = do(world, *arguments)
            self._check(world, after)
            return after

        return move

    def _check(self, before: World, after: World, calls: Iterable[Call] = ()) -> None:
        check_step(before, after, calls, self._plans)
        self.coverage.changes.update(status_changes(before, after))

    def _end(self, world: World) -> None:
        settled = self.settle(world)
        check_end(settled, self._plans)
        self.coverage.statuses.add(tuple(sorted(run["status"] for run in settled.tables.run)))
        if self.bench.scenario.expects is not None:
            self.bench.scenario.expects(self.bench, settled)

    def _without_the_broker(self, world: World) -> None:
        """P2: every worker dies and every message is lost here, and still all runs end."""
        self._trail.append("all workers crash and all messages are lost")
        for seat in world.seats:
            if seat.worker is not None:
                world = self.bench.crash(world, seat)
        self.bench.stage.run("DELETE FROM public.durable_outbox")
        self._end(self.bench.after(world))
        self._trail.pop()

    def settle(self, world: World) -> World:
        """Let everything go on until nothing is left to do."""
        stood = len(self._trail)
        for _ in range(MOVES_TO_SETTLE):
            found = self._settling(world)
            if found is None:
                del self._trail[stood:]
                return world
            name, move = found
            self._trail.append(f"(settling) {name}")
            self.bench.stage.mark("settling")
            world = move()
        raise Broken("P2: every run ends: it goes on for ever")

    def _settling(self, world: World) -> Move | None:
        bench = self.bench
        calm = replace(world, left=Limits())
        for seat in calm.seats:
            if seat.script is not None:
                return f"{seat.name} goes on", self._going_on(calm, seat)
        for place, state in enumerate(calm.acts):
            if isinstance(state, Script):
                return "a client goes on", self._checked(calm, bench.act, place)
        if to_reap(calm):
            return "reap", self._checked(calm, bench.reap)
        if hints := due_hints(calm):
            return "deliver", self._delivered(calm, calm.seats[0], hints[0])
        return self._settling_slowly(calm)

    def _settling_slowly(self, world: World) -> Move | None:
        bench = self.bench
        is_over = not world.unfinished() and all(state == "done" for state in world.acts)
        if is_over and not world.tables.outbox and not world.tables.inbox:
            return None
        recovered = bench.recover(world)
        if due_hints(recovered) or len(recovered.tables.inbox) < len(world.tables.inbox):
            return "recover", self._checked(world, lambda _: recovered)
        idle = {str(seat.worker) for seat in world.seats}
        if any(token["claimed_by"] in idle for token in world.tables.token):
            return "audit", self._checked(world, bench.audit)
        if next_time(world) is not None:
            return "time passes", self._checked(world, bench.pass_time)
        for place, act in enumerate(bench.scenario.acts):
            if world.acts[place] is None and (act.after is None or act.after in world.asked):
                return f"{act.name} begins", self._checked(world, bench.act, place)
        holds(not world.unfinished(), "P2: every run ends", "nothing moves it")
        return None

    def _report(self, error: Exception) -> str:
        steps = "\n".join(f"  {n}. {step}" for n, step in enumerate(self._trail, 1))
        return (
            f"{self.bench.scenario.name}: {type(error).__name__}: {error}\n"
            f"The schedule:\n{steps}\nThe tables:\n{self._tables()}"
        )

    def _tables(self) -> str:
        tables = self.bench.stage.read()
        kept = ("run", "token", "item", "journal", "outbox", "inbox", "worker")
        return "\n".join(
            f"  {name}: {json.dumps({k: v for k, v in row.items() if v is not None})}"
            for name in kept
            for row in getattr(tables, name)
        )


def due_hints(world: World) -> list[Record]:
    """The messages that may be delivered, one of each that are alike."""
    alike: dict[object, Record] = {}
    for row in sorted(world.tables.outbox, key=lambda row: int(row["id"])):
        if row["available_at"] is None or world.tables.is_due(row["available_at"]):
            alike.setdefault(world.hint_key(row), row)
    return list(alike.values())


def has_claim(world: World, seat: Seat) -> bool:
    """Whether a worker holds more than a message: without a claim its death is a lost message."""
    return any(token["claimed_by"] == str(seat.worker) for token in world.tables.token)


def bench_can_be_suspected(world: World, seat: Seat) -> bool:
    row = next((r for r in world.tables.worker if r["id"] == str(seat.worker)), None)
    return (
        row is not None and row["ended_at"] is None and not world.tables.is_due(row["expires_at"])
    )
