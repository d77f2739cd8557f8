"""The library on the stage: one engine, one client and a scenario's runs, driven move by move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, cast
from unittest.mock import patch
from uuid import UUID

from celery_durable import Durable
from celery_durable.background import recovery
from celery_durable.background.liveness import Liveness
from celery_durable.background.recovery import recover
from celery_durable.client import Client
from celery_durable.database.notify import Notifier
from celery_durable.engine import bundle, children, claims, loop, slow_units
from celery_durable.engine.guard import Guard
from celery_durable.engine.loop import Engine
from celery_durable.run import Run
from celery_durable.store import reaping
from tests.integration.driving import Define, make_durable
from tests.model.hands import (
    Call,
    Hand,
    ModelDatabase,
    ModelGuard,
    ModelLiveness,
    Script,
    new_id,
    register,
)
from tests.model.laws import Plans
from tests.model.stage import Record, Stage
from tests.model.world import Limits, Seat, World
from tests.timekeeping import Timekeeper

NOTHING_GOES_WRONG = Limits()

MOMENT = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Act:
    """What a client does once, at any time; `after` another act, if it says so."""

    name: str
    do: Callable[[Bench], object]
    after: str | None = None


@dataclass(frozen=True)
class Scenario:
    """A small world, all of whose schedules are walked."""

    name: str
    define: Define
    acts: tuple[Act, ...] = ()
    limits: Limits = NOTHING_GOES_WRONG
    seats: int = 2
    inline_steps: int = 1
    starts: tuple[str, ...] = ("w",)
    delay: float | None = None
    """Seconds until the runs begin."""
    pool: str = "prefork"
    max_crashes: int = 9
    bundles: bool = False
    """Hints of several tokens are delivered together."""
    looks: bool = False
    """Each unit of a bundle begins long after its claim was looked at last."""
    guarded: bool = False
    """The guard acts while each unit is executed: it writes, and gives back what has not begun."""
    begins_parked: bool = False
    """All that can be done at once has been done before the schedules begin."""
    expects: Callable[[Bench, World], None] | None = None
    longer: Limits | None = None
    """The limits of the longer form."""
    is_large: bool = False
    """It has so many schedules that only the long form walks them."""
    ends: frozenset[tuple[str, ...]] = frozenset()
    """How the runs end, over all schedules: the statuses in order."""

    def __str__(self) -> str:
        return self.name


class Bench:
    """A scenario, set up."""

    def __init__(self, url: str, stage: Stage, scenario: Scenario) -> None:
        self.stage, self.scenario = stage, scenario
        chosen: dict[str, Any] = {"inline_steps": scenario.inline_steps, "inline_seconds": 1e6}
        chosen["max_crashes"] = scenario.max_crashes
        self.durable: Durable = make_durable(url, scenario.define, **chosen)
        self.database = ModelDatabase(url, stage)
        self.registry, settings = self.durable.registry, self.durable.settings
        liveness = cast("Liveness", ModelLiveness(self.database, scenario.pool))
        silent = Silent(self.database)
        self.engine = Engine(self.database, self.registry, settings, liveness, silent)
        self.engine._guard = cast("Guard", ModelGuard())
        self.client = Client(self.registry, lambda: settings)
        vars(self.client).update(database=self.database, notify=silent)
        self.runs: list[UUID] = []
        self._serials = count()

    @property
    def plans(self) -> Plans:
        """Every workflow of the scenario."""
        return {
            (name, version): found.plan
            for name in self.registry.names()
            for version in self.registry.versions(name)
            if (found := self.registry.find(name, version)) is not None
        }

    def begin(self, limits: Limits) -> World:
        """The runs are started, the workers registered, and nobody has done anything yet."""
        for name, version in self.plans:
            self.client.run_factory.outline(name, version)
            self.engine._run_factory.outline(name, version)
            workflow = self.registry.find(name, version)
            assert workflow is not None
            # What an engine remembers of definitions must not depend on the schedule.
            self.engine._compatibility._unfit_nodes[name, version] = frozenset()
        seats = []
        with self.database.autocommit() as connection:
            for place in range(self.scenario.seats):
                seats.append(Seat("AB"[place], new_id()))
                register(connection, cast("UUID", seats[-1].worker), self.scenario.pool)
        for started in self.scenario.starts:
            self.runs.append(self.start(started, delay=self.scenario.delay).id)
        names = {str(run): f"run{n}" for n, run in enumerate(self.runs)}
        tables = self.stage.read()
        nothing = (None,) * len(self.scenario.acts)
        return World(tables, tuple(seats), nothing, limits, names).with_tables(tables)

    def start(self, workflow: str, *, key: str | None = None, delay: float | None = None) -> Run:
        """Start a run, as a client does."""
        return self.client.start(workflow, key=key, delay=delay)

    # What the actors do.

    def deliver(self, world: World, seat: Seat, hint: Record, *, again: bool) -> World:
        """Give a message to a worker, which looks at once whether its claim is to be had."""
        return self.deliver_together(world, seat, [hint], again=again)

    def deliver_together(
        self, world: World, seat: Seat, hints: Sequence[Record], *, again: bool = False
    ) -> World:
        """Give a worker one message for all of the hints."""
        if not again:
            taken = [hint["id"] for hint in hints]
            self.stage.run("DELETE FROM public.durable_outbox WHERE id = ANY(%s)", taken)
        args = tuple(token for hint in hints for token in hint["args"])
        tokens = tuple(UUID(token) for token in args)

        def call() -> None:
            self.engine.advance_together(tokens)

        names = ", ".join(str(world.name(token)) for token in args)
        script = Script(next(self._serials), f"advance {names}", call, args)
        seat = replace(seat, script=replace(script, worker=seat.worker))
        after, _ = self.go_on(world, seat)
        looked = seat_of(after, seat.name)
        if looked.script is not None and not looked.script.replies[0].rows:
            # A claim that was not to be had, and the look why not, which is as good as at once: a
            # claim that came between them would not have been to be had either.
            after, _ = self.go_on(after, looked)
        return after

    def go_on(
        self, world: World, seat: Seat, *, loses_answer: bool = False
    ) -> tuple[World, list[Call]]:
        """A worker makes its next transaction."""
        assert seat.script is not None
        playing = Hand(seat.script, self.stage)
        script = playing.next(loses_answer=loses_answer)
        executing = {(c.run_id, c.unit): c for c in seat.executing if not c.has_returned}
        executing |= {(call.run_id, call.unit): call for call in playing.calls}
        if script is None:
            executing = {}
        at_work = tuple(executing.values())
        moved = replace(seat, script=script, executing=at_work, worker=playing.worker)
        return self.after(with_seat(world, moved)), [c for c in playing.calls if not c.has_returned]

    def act(self, world: World, place: int) -> World:
        """A client begins its act, or makes its next transaction."""
        act, script = self.scenario.acts[place], world.acts[place]
        if not isinstance(script, Script):
            script = Script(next(self._serials), act.name, lambda: act.do(self))
        playing = Hand(script, self.stage)
        left = playing.next()
        acts = list(world.acts)
        acts[place] = left or "done"
        world = replace(world, acts=tuple(acts))
        if getattr(playing.result, "outcome", None) == "stored":
            world = replace(world, stored=(*world.stored, str(self.runs[0])))
        if left is None:
            world = replace(world, asked=world.asked | {act.name})
        return self.after(world)

    # What happens to them.

    def crash(self, world: World, seat: Seat) -> World:
        """The worker's process is gone, and it has not renewed its row."""
        self._expire(seat)
        left = replace(world.left, crashes=world.left.crashes - 1)
        gone = replace(seat, worker=None, script=None, executing=())
        return self.after(with_seat(replace(world, left=left, is_damaged=True), gone))

    def suspect(self, world: World, seat: Seat) -> World:
        """The worker has not renewed its row in time, but goes on."""
        self._expire(seat)
        left = replace(world.left, zombies=world.left.zombies - 1)
        return self.after(replace(world, left=left, is_damaged=True))

    def _expire(self, seat: Seat) -> None:
        self.stage.run(
            "UPDATE public.durable_worker SET ttl = 0, expires_at = model.clock_timestamp()"
            " - interval '1 second' WHERE id = %s",
            seat.worker,
        )

    def lose(self, world: World, hint: Record) -> World:
        """The broker loses a message."""
        self.stage.run("DELETE FROM public.durable_outbox WHERE id = %s", hint["id"])
        left = replace(world.left, losses=world.left.losses - 1)
        return self.after(replace(world, left=left, is_damaged=True))

    # What looks after them.

    def reap(self, world: World) -> World:
        with self.database.autocommit() as connection:
            Timekeeper().reap(connection)
        return self.after(world)

    def recover(self, world: World) -> World:
        """A recovery, long after whatever was hinted was hinted, and was due was due."""
        self.stage.run(
            "UPDATE public.durable_token SET hinted_at = hinted_at - interval '1 day',"
            " wake_at = wake_at - CASE WHEN wake_at <= model.clock_timestamp()"
            " THEN interval '1 day' ELSE interval '0' END"
        )
        recover(self.database, Timekeeper())
        return self.after(world)

    def audit(self, world: World) -> World:
        """Live workers give back what they have claimed and do not work on."""
        with self.database.autocommit() as connection:
            for seat in world.seats:
                if seat.worker is not None and seat.script is None:
                    for claimed in reaping.claimed_by(connection, seat.worker):
                        reaping.reap(connection, claimed, new_id())
        return self.after(world)

    def pass_time(self, world: World) -> World:
        """It is just later than the next thing waits for."""
        at = next_time(world)
        assert at is not None
        self.stage.wait_until((datetime.fromisoformat(at) + MOMENT).isoformat())
        return self.after(world)

    def after(self, world: World) -> World:
        return world.with_tables(self.stage.read())


def with_seat(world: World, seat: Seat) -> World:
    seats = tuple(seat if seat.name == old.name else old for old in world.seats)
    return replace(world, seats=seats)


def seat_of(world: World, name: str) -> Seat:
    return next(seat for seat in world.seats if seat.name == name)


def next_time(world: World) -> str | None:
    """The earliest time that has not come."""
    tables = world.tables
    times = [row["wake_at"] for row in tables.token] + [row["deadline_at"] for row in tables.token]
    times += [row["available_at"] for row in tables.outbox]
    times += [at for run in tables.run for at in deadlines_of(run)]
    return min((t for t in times if t is not None and not tables.is_due(t)), default=None)


def deadlines_of(run: Record) -> tuple[str | None, ...]:
    """The deadlines of a run that nobody has called to end."""
    is_over = run["finished_at"] or run["cancel_requested_at"] or run["status"] == "compensating"
    return () if is_over else (run["times_out_at"], run["expires_at"])


def to_reap(world: World) -> bool:
    """Whether a reaper has something to do."""
    if any(world.tables.is_due(at) for run in world.tables.run for at in deadlines_of(run)):
        return True
    ended = {r["id"] for r in world.tables.worker if r["ended_at"] is not None}
    return any(
        r["ended_at"] is None and world.tables.is_due(r["expires_at"]) for r in world.tables.worker
    ) or any(t["claimed_by"] in ended or is_overdue(world, t) for t in world.tables.token)


def is_overdue(world: World, token: Record) -> bool:
    """Whether the pool has no time limits, and the unit has taken longer than its own."""
    if not token["claimed_by"]:
        return False
    pools = {r["id"]: r["pool"] for r in world.tables.worker}
    return pools.get(token["claimed_by"]) == "threads" and world.tables.is_due(token["deadline_at"])


class Silent(Notifier):
    """No relay has to be woken, and nobody waits for a run."""

    def __call__(self) -> None:
        pass

    def ended(self, run_ids: Sequence[UUID]) -> None:
        pass


@contextmanager
def modelled(scenario: Scenario) -> Iterator[None]:
    """Ids are the same each time a script is played, and no time passes by itself."""
    at_once = 0 if scenario.guarded else MANY_TICKS
    ticks = Ticks()
    with (
        patch.object(loop, "uuid4", new_id),
        patch.object(claims, "uuid4", new_id),
        patch.object(children, "uuid4", new_id),
        patch.object(children, "uuid7", new_id),
        patch.object(recovery, "uuid4", new_id),
        patch.object(time, "sleep", lambda _seconds: None),
        patch.object(bundle, "time", ticks),
        patch.object(loop, "time", ticks),
        patch.object(bundle, "LOOK_AGAIN_AFTER", FEW_TICKS if scenario.looks else MANY_TICKS),
        patch.object(bundle, "WRITE_AFTER", at_once),
        patch.object(bundle, "GIVE_BACK_AFTER", at_once),
        patch.object(slow_units, "SLOW_FROM", MANY_TICKS),
    ):
        yield


MANY_TICKS, FEW_TICKS = 1_000_000_000, 4
"""A look at two claims takes fewer, and the execution of a unit more than `FEW_TICKS`."""


class Ticks:
    """A clock that goes on by one each time it is looked at."""

    def __init__(self) -> None:
        self._at = count()

    def monotonic(self) -> int:
        return next(self._at)

    def sleep(self, _seconds: float) -> None:
        """No time passes by itself."""
