"""What operators do is noted: who, what, when and why, in the transaction that does it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from celery_durable import ConfigurationError, Durable, RetryPolicy, Run, RunNotFound, RunRefused
from celery_durable.cli.application import user_and_host
from celery_durable.core.action import Action
from tests.integration.commanding import Cli
from tests.integration.driving import ONCE, World

Noted = tuple[str, str | None, str | None, str | None]


def define(durable: Durable, retry: RetryPolicy = ONCE) -> None:
    """`w` fails at its second step, and at undoing its first; `waits` waits for a signal."""

    def charge(ctx: Any) -> None:
        raise ValueError("no money")

    def release(ctx: Any) -> None:
        raise ValueError("no key")

    reserve = durable.step(lambda _: None, name="reserve")
    reserve.compensate(release, retry=ONCE)
    durable.workflow("w").step(reserve).step(charge, retry=retry, name="charge")
    durable.workflow("waits").wait_for_signal("signoff")


def noted(found: list[Action]) -> list[Noted]:
    """What was noted, the first first: the action, who, why, and what it was done to."""
    return [(one.name, one.actor, one.reason, one.what) for one in reversed(found)]


def actions(durable: Durable, run: Run | None = None) -> list[Noted]:
    return noted([*durable.actions(None if run is None else run.id)])


def paused_at_charge(world: World) -> tuple[Durable, Run]:
    """A run that is paused after its last try of `charge`."""
    durable = world.worker(lambda it: define(it, RetryPolicy(max_attempts=1, on_exhausted="pause")))
    run = durable.start("w")
    world.drain(durable)
    return durable, run


def failed(world: World) -> tuple[Durable, Run]:
    """A run that has failed, and a compensation of it too."""
    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    return durable, run


DEEDS: dict[str, tuple[Callable[[World], tuple[Durable, Run]], Callable[[Run], object]]] = {
    "cancel": (paused_at_charge, lambda run: run.cancel(reason="too late")),
    "retry": (failed, lambda run: run.retry(from_step="reserve")),
    "retry_now": (paused_at_charge, lambda run: run.retry_now()),
    "skip": (paused_at_charge, lambda run: run.skip("charge", {"ok": 1})),
    "pause": (paused_at_charge, lambda run: run.pause(reason="too late")),
    "retry_compensation": (failed, lambda run: run.retry_compensation()),
}
WHAT = {"retry": "reserve", "retry_now": "charge", "skip": "charge"}


@pytest.mark.parametrize("name", DEEDS)
def test_what_is_done_is_noted_with_who_and_why(world: World, name: str) -> None:
    made, act = DEEDS[name]
    durable, run = made(world)
    with durable.acting("ann", "an incident"):
        act(run)
    why = "too late" if name in {"cancel", "pause"} else "an incident"
    assert actions(durable, run) == [(name, "ann", why, WHAT.get(name))]
    (one,) = durable.actions(run.id)
    assert (one.run_id, one.workflow, one.version) == (run.id, "w", 1)
    assert abs((one.at - world.one("SELECT clock_timestamp()")).total_seconds()) < 60


@pytest.mark.parametrize("name", DEEDS)
def test_it_is_noted_without_a_name_where_nobody_has_said(world: World, name: str) -> None:
    made, act = DEEDS[name]
    durable, run = made(world)
    act(run)
    why = "too late" if name in {"cancel", "pause"} else None
    assert actions(durable, run) == [(name, None, why, WHAT.get(name))]


@pytest.mark.parametrize("name", DEEDS)
def test_what_cannot_be_noted_is_not_done(world: World, name: str) -> None:
    made, act = DEEDS[name]
    _, run = made(world)
    before = (
        world.counts(),
        world.rows("SELECT * FROM durable_pause"),
        world.rows("SELECT * FROM durable_token"),
    )
    world.trigger("BEFORE INSERT ON durable_action", "RAISE EXCEPTION 'the disk is full';")
    with pytest.raises(Exception, match="the disk is full"):
        act(run)
    assert (
        world.counts(),
        world.rows("SELECT * FROM durable_pause"),
        world.rows("SELECT * FROM durable_token"),
    ) == before


@pytest.mark.parametrize("name", DEEDS)
def test_what_is_refused_is_not_noted(world: World, name: str) -> None:
    _, act = DEEDS[name]
    durable = world.worker(lambda it: it.workflow("w").step(lambda _: None, name="a"))
    run = durable.start("w")
    world.drain(durable)
    with durable.acting("ann"):
        if name == "cancel":
            act(run)  # a run that has ended stays as it is
        else:
            with pytest.raises((RunRefused, ConfigurationError)):
                act(run)
    assert actions(durable, run) == []


def test_a_signal_is_noted_only_where_somebody_acts(world: World) -> None:
    durable = world.worker(define)
    run = durable.start("waits")
    run.resume("signoff", {"ok": True})
    assert actions(durable, run) == []
    with durable.acting("ann"):
        run.resume("signoff", {"ok": True}, key="again")
        run.resume("signoff", {"ok": True}, key="again")
    assert actions(durable, run) == [("resume", "ann", None, "signoff")]


def test_a_pause_is_noted_once_with_what_is_paused(world: World) -> None:
    durable = world.worker(define)
    with durable.acting("ann"):
        assert durable.pause(workflow="w", version=1, step="charge", reason="an incident")
        assert not durable.pause(workflow="w", version=1, step="charge")
        assert durable.unpause(workflow="w", version=1, step="charge")
        assert not durable.unpause(workflow="w", version=1, step="charge")
    last, first = durable.actions()
    assert (first.name, first.reason, last.name, last.reason) == (
        "pause",
        "an incident",
        "unpause",
        None,
    )
    assert {(one.run_id, one.workflow, one.version, one.what) for one in (first, last)} == {
        (None, "w", 1, "charge")
    }


def test_an_action_in_a_transaction_of_the_callers_is_noted_with_it(world: World) -> None:
    durable = world.worker(define)
    run = durable.start("waits")
    engine = sa.create_engine(world.url)
    with durable.acting("ann"), Session(engine) as session:
        run.cancel(session=session)
        run.resume("signoff", session=session)
        session.rollback()
        assert actions(durable, run) == []
        run.cancel(session=session)
        run.resume("signoff", session=session)
        session.commit()
    engine.dispose()
    assert [one[0] for one in actions(durable, run)] == ["cancel", "resume"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_it_holds_for_the_twins_in_threads_and_in_a_transaction(world: World, driver: str) -> None:
    durable = world.worker(define)
    run = durable.start("waits")

    async def act() -> None:
        engine = create_async_engine(world.url.replace("psycopg", driver))
        with durable.acting("ann"):
            await durable.aresume(run.id, "signoff")
            async with engine.begin() as connection:
                await durable.acancel(run.id, session=connection)
        await durable.apause(workflow="w")
        assert [one.name for one in await durable.aactions(run.id)] == ["cancel", "resume"]
        await engine.dispose()

    asyncio.run(act())
    assert actions(durable) == [
        ("resume", "ann", None, "signoff"),
        ("cancel", "ann", None, None),
        ("pause", None, None, None),
    ]


def test_two_that_act_at_the_same_time_are_told_apart(world: World) -> None:
    durable = world.worker(define)
    runs = [durable.start("waits") for _ in range(6)]

    async def act(name: str, run: Run) -> None:
        with durable.acting(name):
            await durable.acancel(run.id)

    async def all_act() -> None:
        await asyncio.gather(*(act(f"person {n}", run) for n, run in enumerate(runs)))

    asyncio.run(all_act())
    assert [durable.actions(run.id)[0].actor for run in runs] == [f"person {n}" for n in range(6)]


def test_an_inner_block_goes_before_an_outer_one_and_ends(world: World) -> None:
    durable = world.worker(define)
    with durable.acting("ann", "outer"):
        with durable.acting("ben"):
            durable.pause(workflow="w")
        durable.unpause(workflow="w")
    durable.pause(workflow="w")
    assert actions(durable) == [
        ("pause", "ben", None, None),
        ("unpause", "ann", "outer", None),
        ("pause", None, None, None),
    ]


@pytest.mark.parametrize("actor", ["", "a" * 501, "a\0b", 7, None])
def test_a_name_that_cannot_be_noted_is_refused(actor: Any) -> None:
    with pytest.raises(ConfigurationError, match="actor="), Durable().acting(actor):
        pass


BULK: dict[str, tuple[Callable[[World], tuple[Durable, Run]], dict[str, Any], Noted]] = {
    "cancel": (paused_at_charge, {"reason": "closed"}, ("cancel", "ann", "closed", None)),
    "retry": (failed, {"from_step": "reserve"}, ("retry", "ann", "an incident", "reserve")),
    "retry_now": (paused_at_charge, {}, ("retry_now", "ann", "an incident", None)),
    "resume": (paused_at_charge, {"signal": "s"}, ("resume", "ann", "an incident", "s")),
    "pause": (paused_at_charge, {}, ("pause", "ann", "an incident", None)),
    "retry_compensation": (failed, {}, ("retry_compensation", "ann", "an incident", None)),
}


@pytest.mark.parametrize("name", BULK)
def test_what_is_done_to_many_is_noted_for_each(world: World, name: Any) -> None:
    made, options, expected = BULK[name]
    durable, run = made(world)
    other = durable.start("w")
    world.drain(durable)
    with durable.acting("ann", "an incident"):
        assert durable.bulk(name, workflow="w", **options).done == 2
    assert actions(durable, run) == actions(durable, other) == [expected]


def test_unpausing_many_is_noted_for_each(world: World) -> None:
    durable, run = paused_at_charge(world)
    durable.bulk("pause", workflow="w")
    with durable.acting("ann"):
        durable.bulk("unpause", workflow="w")
    assert [one[:2] for one in actions(durable, run)] == [("pause", None), ("unpause", "ann")]


@pytest.mark.parametrize("is_bulk", [False, True])
def test_who_prunes_is_noted_and_what_was_noted_of_the_runs_goes_with_them(
    world: World, is_bulk: bool
) -> None:
    durable, run = failed(world)
    run.retry_compensation()
    world.drain(durable)
    assert len(durable.actions(run.id)) == 1
    with durable.acting("ann"):
        if is_bulk:
            assert durable.bulk("prune", workflow="w", older_than=0).done == 1
        else:
            assert durable.prune(older_than=0, status="failed") == 1
    (one,) = durable.actions()
    assert (one.name, one.actor, one.run_id) == ("prune", "ann", None)
    assert "failed longer ago than 0:00:00" in str(one.what)
    with pytest.raises(RunNotFound):
        durable.actions(run.id)


def test_a_program_that_prunes_is_not_noted(world: World) -> None:
    durable, _ = failed(world)
    assert durable.prune(older_than=0) == 1
    assert durable.actions() == []


def test_the_latest_come_first_and_no_more_than_are_asked_for(world: World) -> None:
    durable = world.worker(define)
    run = durable.start("waits")
    for name in ("ann", "ben", "cleo"):
        with durable.acting(name):
            run.resume("another")
    assert [one.actor for one in durable.actions(run.id, limit=2)] == ["cleo", "ben"]
    with pytest.raises(ConfigurationError, match="limit="):
        durable.actions(limit=0)


def test_why_says_who_has_paused_and_cancelled(world: World) -> None:
    durable, run = paused_at_charge(world)
    other = durable.start("waits")
    with durable.acting("ann"):
        run.pause(reason="an incident")
        durable.pause(workflow="waits")
    with durable.acting("ben"):
        durable.pause(step="charge")
    assert "The run is paused by ann: an incident" in str(run.why())
    assert "Step charge is paused by ben" in str(run.why())
    assert "Workflow waits is paused by ann" in str(other.why())
    assert {one.by for one in durable.pauses()} == {"ann", "ben"}
    with durable.acting("cleo"):
        run.cancel(reason="closed")
    assert run.status().status == "cancelled"
    assert "The run has ended, cancelled by cleo" in str(run.why())


def test_who_types_a_command_is_noted(world: World, call: Cli) -> None:
    durable, run = paused_at_charge(world)
    assert call(durable.app, "skip", str(run.id), "--unit", "charge").code == 0
    assert call(durable.app, "resume", str(run.id), "later").code == 0
    assert call(durable.app, "cancel", str(run.id), "--reason", "closed").code == 0
    me = user_and_host()
    assert actions(durable, run) == [
        ("skip", me, None, "charge"),
        ("resume", me, None, "later"),
        ("cancel", me, "closed", None),
    ]
    durable.pause(workflow="w")
    assert actions(durable)[-1] == ("pause", None, None, None)


def test_a_user_without_a_name_is_noted_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("celery_durable.cli.application.getuser", nobody)
    assert user_and_host().partition("@")[0].isdigit()
