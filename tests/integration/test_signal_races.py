"""A signal against a timeout, a parking token, another signal, a cancel: nothing is ever lost.

Each race runs in random interleavings. The seed is printed, and is a parameter of the test.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from celery_durable import Durable
from celery_durable.run import Run
from celery_durable.workflow.suspend import Suspend
from tests.forms import short_or_long
from tests.integration.driving import World, all_at_once
from tests.integration.workflows import asking_twice, waiting_twice

ROUNDS = short_or_long(10, 50)
"""Of one seed and one kind of wait; `tests/model` walks the interleavings of transactions."""

SEEDS = short_or_long([1], [1, 2])
FINAL = {"completed", "failed", "cancelled"}

Call = Callable[[], Any]


class Race:
    """Calls that start together, each after a random number of looks at the others.

    The first time they are made one by one as they are listed, the second time from the end: so
    the first and the last of them each come first once.
    """

    def __init__(self, seed: int) -> None:
        print(f"seed {seed}")  # noqa: T201 - shown when the test fails
        self.chance = random.Random(seed)
        self.times = 0

    def run(self, calls: list[Call]) -> list[Any]:
        self.times += 1
        if self.times <= 2:
            return [call() for call in (calls if self.times == 1 else reversed(calls))]
        self.chance.shuffle(calls)
        in_turn = self.chance.random() < 0.3
        if in_turn:
            return [call() for call in calls]
        return all_at_once([partial(after, self.chance.randint(0, 300), call) for call in calls])


def after(yields: int, call: Call) -> Any:
    """Let other threads go first, so many times."""
    never = threading.Event()
    for _ in range(yields):
        never.wait(0)
    return call()


def deliver(worker: Durable, token_id: UUID, times: int = 3) -> None:
    """Hints for one token, more often than it needs them."""
    for _ in range(times):
        worker.engine.advance(token_id)


def first_hint(world: World, run: Run) -> UUID:
    """The token of a run that has just started; its hint is taken, with late ones of others."""
    token_id = world.token_id(run)
    assert token_id in world.publish()
    return token_id


def branches_of(world: World, run: Run) -> list[UUID]:
    query = "SELECT id FROM durable_token WHERE run_id = %s AND parent_id IS NOT NULL"
    tokens = [row["id"] for row in world.rows(query, run.id)]
    assert set(tokens) <= set(world.publish())
    return tokens


def inbox(world: World, run: Run) -> list[tuple[Any, bool]]:
    """The payloads that the inbox holds, and whether each is consumed."""
    rows = world.rows("SELECT payload, consumed_by FROM durable_inbox WHERE run_id = %s", run.id)
    return [(row["payload"], row["consumed_by"] is not None) for row in rows]


def assert_ended(world: World, run: Run, *legal: str) -> None:
    """A signal that was committed while the run ended may be there still, for recovery."""
    assert world.status(run) in legal
    units = world.units(run)
    assert len(units) == len({unit.split()[0] for unit in units}), "a unit is recorded once"
    assert [consumed for _, consumed in inbox(world, run)] in ([], [False])


def assert_nothing_left(world: World, worker: Durable) -> None:
    """Not even a message, once the late ones have come."""
    world.let_time_pass(60)
    worker.recover()
    world.drain(worker)
    left = {table: world.counts()[table] for table in ("token", "inbox", "outbox")}
    assert left == {"token": 0, "inbox": 0, "outbox": 0}


@pytest.fixture(params=SEEDS)
def race(request: pytest.FixtureRequest) -> Race:
    return Race(request.param)


def waiting_with(**options: Any) -> Callable[[Durable], None]:
    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("s", "go", **options)

    return define


def asking(durable: Durable) -> None:
    """A step that suspends, as the other way to wait."""

    def ask(ctx: Any) -> Any:
        return ctx.resume_data if ctx.is_resumed else Suspend(timeout=ctx.input, signal="go")

    durable.workflow("w").step(ask, name="s")


@pytest.mark.parametrize("define", [waiting_with(timeout=30, on_timeout="continue"), asking])
def test_a_signal_against_a_timeout(world: World, race: Race, define: Any) -> None:
    """P9"""
    workers = [world.worker(define) for _ in range(2)]
    ends = set()
    for _ in range(ROUNDS):
        run = workers[0].start("w", 30)
        world.drain(workers[0])
        token_id = world.token_id(run)
        calls: list[Call] = [partial(world_time, world, run, 30)]
        calls += [partial(deliver, one, token_id, 6) for one in workers]
        calls += [partial(run.resume, "go", "yes")]
        deliveries = [one for one in race.run(calls) if one is not None]
        world.drain(*workers)

        assert_ended(world, run, "completed", "failed")
        completed = world.status(run) == "completed"
        result = run.result(0)["s"] if completed else None
        assert result in ("yes", None)
        if result == "yes":
            assert deliveries[0].outcome == "stored"
        ends.add(result)
    assert_nothing_left(world, workers[0])
    assert ends == {"yes", None}, "the race was no race"


def world_time(world: World, run: Run, seconds: float) -> None:
    """The time that the run waits for has come, and that of its message."""
    tables = {"token": "wake_at", "outbox": "available_at"}
    with world.connect() as connection:
        for table, column in tables.items():
            statement = (
                f"UPDATE durable_{table} SET {column} = {column} - make_interval(secs => %s)"
            )
            connection.execute(f"{statement} WHERE run_id = %s".encode(), [seconds, run.id])


@pytest.mark.parametrize("define", [waiting_with(), asking])
@pytest.mark.parametrize("joins", [False, True])
def test_a_signal_against_parking(world: World, race: Race, define: Any, joins: bool) -> None:
    """P9: no hint but the two that there are, and no recovery, is needed."""
    workers = [world.worker(define) for _ in range(2)]
    for _ in range(ROUNDS):
        run = workers[0].start("w")
        token_id = first_hint(world, run)
        resume: Call = partial(run.resume, "go", "yes")
        if joins:
            resume = partial(resume_in_a_transaction, world, run)
        calls: list[Call] = [
            partial(deliver, race.chance.choice(workers), token_id, 1),
            resume,
        ]
        race.run(calls)
        world.drain(*workers)

        assert_ended(world, run, "completed")
        assert run.result(0) == {"s": "yes"}
    assert_nothing_left(world, workers[0])


def resume_in_a_transaction(world: World, run: Run) -> None:
    with world.connect() as connection, connection.transaction():
        run.resume("go", "yes", session=connection)
        after(200, lambda: None)


@pytest.mark.parametrize("keyed", [False, True])
def test_two_signals_at_once(world: World, race: Race, keyed: bool) -> None:
    """P9: with one key one counts; with none both do, each once."""
    workers = [world.worker(waiting_twice) for _ in range(2)]
    for _ in range(ROUNDS):
        run = workers[0].start("w")
        token_id = first_hint(world, run)
        key = "k" if keyed else None
        calls: list[Call] = [partial(run.resume, "go", n, key=key) for n in (1, 2)]
        calls += [partial(deliver, one, token_id, 2) for one in workers]
        deliveries = sorted(one.outcome for one in race.run(calls) if one is not None)
        world.drain(*workers)

        if keyed:
            assert deliveries == ["duplicate", "stored"]
            assert run.status().awaiting == ("go",)
            assert [consumed for _, consumed in inbox(world, run)] == [True]
            run.resume("go", 3)
            world.drain(*workers)
        else:
            assert deliveries == ["stored", "stored"]
        assert_ended(world, run, "completed")
        results = list(run.result(0).values())
        assert sorted(results) == sorted(set(results)), "each is consumed once"
    assert_nothing_left(world, workers[0])


@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.parametrize("define", [waiting_with(), asking])
def test_a_signal_against_a_cancel(world: World, race: Race, define: Any, compensate: bool) -> None:
    """P9: the run completes with the signal or is cancelled without, and never waits for ever."""
    workers = [world.worker(define) for _ in range(2)]
    ends = set()
    for _ in range(ROUNDS):
        run = workers[0].start("w")
        token_id = first_hint(world, run)
        if race.chance.random() < 0.5:
            workers[0].engine.advance(token_id)
        calls: list[Call] = [partial(run.resume, "go", "yes")]
        calls += [partial(deliver, one, token_id, 2) for one in workers]
        calls += [partial(run.cancel, compensate=compensate)]
        race.run(calls)
        world.drain(*workers)

        assert world.status(run) in ("completed", "cancelled")
        ends.add(world.status(run))
        assert_ended(world, run, *FINAL)
    assert_nothing_left(world, workers[0])
    assert ends == {"completed", "cancelled"}, "the race was no race"


def test_two_branches_that_wait_for_one_name_share_the_signals(world: World, race: Race) -> None:
    """P9: each signal goes to one of them."""
    workers = [world.worker(asking_twice) for _ in range(2)]
    for _ in range(2 * ROUNDS):
        run = workers[0].start("w")
        token_id = first_hint(world, run)
        workers[0].engine.advance(token_id)
        tokens = branches_of(world, run)
        calls: list[Call] = [partial(run.resume, "go", n) for n in (1, 2)]
        calls += [partial(deliver, *pair, 3) for pair in zip(workers, tokens, strict=True)]
        race.run(calls)
        world.drain(*workers)

        assert_ended(world, run, "completed")
        assert sorted(run.result(0)["p"].values()) == [1, 2]
    assert_nothing_left(world, workers[0])


def test_one_signal_of_two_branches_moves_one(world: World, race: Race) -> None:
    """P9"""
    workers = [world.worker(asking_twice) for _ in range(2)]
    for _ in range(ROUNDS // 2):
        run = workers[0].start("w")
        world.drain(workers[0])
        run.resume("go", 1)
        hints = world.publish()
        race.run([partial(deliver, worker, one, 1) for worker in workers for one in hints])
        world.drain(*workers)

        assert run.status().awaiting == ("go",)
        assert [unit.split()[1] for unit in world.units(run)] == ["completed"]
        run.resume("go", 2)
        world.drain(*workers)
        assert sorted(run.result(0)["p"].values()) == [1, 2]
    assert_nothing_left(world, workers[0])
