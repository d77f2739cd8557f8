"""P2: whatever is lost, a token whose time has come is found by recovery, and none before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from celery_durable import Durable, RetryPolicy
from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from celery_durable.engine import loop
from celery_durable.run import Run
from celery_durable.store.cancelling import announcing
from celery_durable.workflow.suspend import Suspend
from tests.forms import short_or_long
from tests.integration.driving import World, claimed, make_durable, noting

A_WHILE = 20
"""Seconds after which a hint that was not followed is taken for lost."""


def ask(ctx: Any) -> Any:
    return ctx.resume_data if ctx.is_resumed else Suspend()


def one_and_another(durable: Durable) -> None:
    """One branch ends at once, the other waits."""
    durable.workflow("w").parallel("p", {"a": ask, "b": noting([], "b", "b")})


def child(durable: Durable) -> None:
    waits = durable.workflow("child").wait_for_signal("s")
    durable.workflow("w").step(waits, name="c")


def signal(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("s")


def suspended(durable: Durable) -> None:
    durable.workflow("w").step(ask, name="s")


def timed(durable: Durable) -> None:
    durable.workflow("w").wait_for_signal("s", timeout=3600, on_timeout="continue")


def sleep(durable: Durable) -> None:
    durable.workflow("w").sleep("z", 3600)


def retried(durable: Durable) -> None:
    def second_time(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise ValueError

    policy = RetryPolicy(2, initial=3600, maximum=3600, jitter=False)
    durable.workflow("w").step(second_time, name="r", retry=policy)


def found_by_recovery(world: World, worker: Durable) -> int:
    """Nothing that was put for anybody arrives; then recovery comes, after a while."""
    world.lose_hints()
    world.let_time_pass(A_WHILE)
    return worker.recover()


def assert_nothing_is_found(world: World, worker: Durable) -> None:
    for _ in range(2):
        assert found_by_recovery(world, worker) == 0
        assert world.hints() == 0


def parked(world: World, define: Any) -> tuple[Durable, Run]:
    """A run that waits; recovery does not find it."""
    worker = world.worker(define, inline_steps=1)
    run = worker.start("w")
    world.drain(worker)
    assert_nothing_is_found(world, worker)
    return worker, run


@pytest.mark.parametrize(
    ("define", "name"), [(signal, "s"), (suspended, "s"), (timed, "s"), (one_and_another, "p#a")]
)
def test_a_signal_whose_hint_was_lost(world: World, define: Any, name: str) -> None:
    worker, run = parked(world, define)
    run.resume("another", 1)
    assert_nothing_is_found(world, worker)
    run.resume(name, 1)

    assert found_by_recovery(world, worker) == 1
    world.drain(worker)
    while not run.status().finished_at:
        assert found_by_recovery(world, worker) == 1
        world.drain(worker)
    assert run.status().status is Status.COMPLETED


@pytest.mark.parametrize("define", [timed, sleep, retried])
def test_a_time_whose_message_was_lost(world: World, define: Any) -> None:
    """The ancestor's fault: recovery fires timers early and resets attempts."""
    worker, run = parked(world, define)
    attempt = run.status().attempt
    world.let_time_pass(3600 - 3 * A_WHILE)
    assert worker.recover() == 0, "it is not due"
    world.let_time_pass(A_WHILE)
    assert worker.recover() == 0, "it has just become due"

    assert found_by_recovery(world, worker) == 1
    assert run.status().attempt == attempt
    world.drain(worker)
    assert run.status().status is Status.COMPLETED


def test_a_worker_that_dies_as_it_takes_a_signal_costs_the_step_no_try(world: World) -> None:
    """A step with a time limit, which does not run while the signal is looked at."""
    tries: list[int] = []

    def agent(ctx: Any) -> Any:
        tries.append(ctx.attempt)
        return ask(ctx)

    def define(durable: Durable) -> None:
        durable.workflow("w").step(agent, name="s", timeout=5, retry=RetryPolicy(1))

    first, second = world.worker(define), world.worker(define)
    run = first.start("w")
    world.drain(first)
    run.resume("s", "yes")
    assert claimed(first, world.token_id(run))
    world.rows("UPDATE durable_token SET deadline_at = deadline_at - interval '1 hour'")
    world.kill(first)
    assert world.reap(second) == 1
    world.drain(second)

    assert run.result(0) == {"s": "yes"}
    assert tries == [1, 1]
    assert run.history()[0].failures == ()


def test_a_child_that_ended_unheard(world: World) -> None:
    worker, run = parked(world, child)
    (summary,) = run.status().children
    of_child = worker.run(summary.run_id)
    of_child.resume("s", 1)
    deliver_to(world, worker, of_child)
    assert of_child.status().status is Status.COMPLETED
    assert run.status().status is Status.SUSPENDED

    assert found_by_recovery(world, worker) == 1
    world.drain(worker)
    assert run.result(0) == {"c": {"s": 1}}


def deliver_to(world: World, worker: Durable, run: Run) -> None:
    """Only the hints of this run arrive."""
    token_id = world.token_id(run)
    world.lose_hints()
    worker.engine.advance(token_id)
    world.lose_hints()


def test_a_gate_that_opened_unseen(world: World) -> None:
    worker, run = parked(world, one_and_another)
    run.resume("p#a", "a")
    (branch,) = world.rows("SELECT id FROM durable_token WHERE parent_id IS NOT NULL")
    for _ in range(2):
        world.lose_hints()
        worker.engine.advance(branch["id"])
    world.lose_hints()
    assert [row["remaining"] for row in world.rows("SELECT remaining FROM durable_token")] == [0]

    assert found_by_recovery(world, worker) == 1
    world.drain(worker)
    assert run.result(0) == {"p": {"a": "a", "b": "b"}}


def test_branches_and_items_that_never_began(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").map(
            "m", over=lambda _: list(range(9)), handler=lambda ctx: ctx.item, max_concurrency=3
        )

    worker = world.worker(define, inline_steps=1)
    run = worker.start("w")
    rounds = 0
    while not run.status().finished_at:
        for token_id in world.publish():
            worker.engine.advance(token_id)
        assert found_by_recovery(world, worker) <= 3, "no more than the window"
        rounds += 1
        assert rounds < 20
    assert run.result(0) == {"m": list(range(9))}


def test_a_cancel_that_nobody_has_applied(world: World) -> None:
    """Its caller's transaction committed it, and its hint was lost."""
    worker, run = parked(world, child)
    with world.connect() as caller, caller.transaction():
        run.cancel(reason="no", session=caller)
    world.lose_hints()
    assert world.one("SELECT count(*) FROM durable_inbox WHERE kind = 'command'") == 1
    assert run.status().status is Status.SUSPENDED

    assert worker.recover() == 1, "a command waits for nobody"
    world.drain(worker)
    statuses = world.rows("SELECT status FROM durable_run")
    assert [row["status"] for row in statuses] == ["cancelled"] * 2


@pytest.mark.parametrize("define", [signal, sleep])
def test_a_token_that_was_flagged_and_of_which_nobody_was_told(world: World, define: Any) -> None:
    worker, run = parked(world, define)
    with worker.database.transaction() as connection:
        announcing.announce(connection, [run.id], Flags.CANCEL, None)
    assert run.status().finished_at is None

    assert found_by_recovery(world, worker) == 1
    world.drain(worker)
    assert run.status().status is Status.CANCELLED


FAULT = """
CREATE SEQUENCE changes_by_doomed;
CREATE FUNCTION fail_if_doomed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') = 'doomed' THEN
        IF nextval('changes_by_doomed') >= %s THEN
            RAISE EXCEPTION 'the connection is gone' USING ERRCODE = '57P01';
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fault BEFORE INSERT OR UPDATE OR DELETE ON durable_token
    FOR EACH STATEMENT EXECUTE FUNCTION fail_if_doomed();
"""
"""From its n-th statement on that changes a token, a doomed worker reaches the database no more."""


@pytest.fixture
def doomed(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Durable]:
    monkeypatch.setattr(loop, "COMMITS_WITHIN", 0.0)  # it is dead; nobody waits for its database
    url = sa.make_url(world.url).update_query_dict({"application_name": "doomed"})
    made = make_durable(
        url.render_as_string(hide_password=False), everything, worker_ttl=1, inline_steps=1
    )
    yield made
    made.database.close()


def everything(durable: Durable) -> None:
    """A fork and its join, and a child in a branch and in a step."""
    kid = durable.workflow("kid").step(lambda _: "kid", name="k")
    workflow = durable.workflow("w").parallel("p", {"a": lambda _: "a", "c": kid})
    workflow.map("m", over=lambda _: [1, 2], handler=lambda ctx: ctx.item, max_concurrency=1)
    workflow.child_workflow("kid", kid)


RESULT = {"p": {"a": "a", "c": {"k": "kid"}}, "m": [1, 2], "kid": {"k": "kid"}}


POINTS = 38
"""How many statements change a token in an undisturbed run of it."""


@pytest.mark.parametrize("point", [*range(1, POINTS + 1, short_or_long(4, 1)), POINTS + 1])
def test_a_worker_that_dies_at_any_commit_of_a_join_or_a_child_start_loses_nothing(
    world: World, doomed: Durable, point: int
) -> None:
    """P1, P2, P3: each statement that changes a token in turn is the last that does not arrive."""
    other = world.worker(everything, inline_steps=1)
    run = other.start("w")
    world.rows(FAULT % point)
    died = False
    while not died and (hints := world.publish()):
        for token_id in hints:
            doomed.engine.advance(token_id)
            died = world.one("SELECT last_value >= %s FROM changes_by_doomed", point)
            if died:
                break
    assert died is (point <= POINTS), "POINTS is not the number of points any more"
    world.kill(doomed)
    world.reap(other)
    world.lose_hints()
    for _ in range(20):
        world.drain(other)
        found_by_recovery(world, other)

    assert run.result(0) == RESULT
    units = world.units(run)
    assert sorted(units) == sorted(
        f"{unit} completed" for unit in ("p", "p#a", "p#c", "m", "m#0", "m#1", "kid")
    )
    assert world.one("SELECT count(*) FROM durable_run WHERE workflow = 'kid'") == 2
    assert world.counts()["token"] == 0
