"""Whoever waits for a signal is told of it, whatever happens while it is sent or consumed."""

from __future__ import annotations

import pytest

from celery_durable import Durable
from celery_durable.database import notify
from celery_durable.store.signals import HINTED_WAITERS
from tests.integration.driving import Gate, World, noting, spawn
from tests.integration.forks import advance, ended
from tests.integration.watching import Executed, lose_the_answer
from tests.integration.workflows import asking
from tests.waiting import wait_until

OLDEST_FIRST = (
    "SELECT id FROM durable_token WHERE run_id = %s AND parent_id IS NOT NULL"
    " ORDER BY waiting_since"
)


@pytest.fixture
def lost_parks(monkeypatch: pytest.MonkeyPatch) -> list[Executed]:
    """The first statement that parks for `go` is executed, and its answer never arrives."""
    return lose_the_answer(monkeypatch, lambda executed: executed.parameters.get("awaits") == "go")


def test_two_that_consume_at_the_same_time_tell_the_others_that_wait(world: World) -> None:
    """P9: one finds its signal gone and looks again; those behind both must not be forgotten."""
    many = HINTED_WAITERS + 2

    def define(durable: Durable) -> None:
        durable.workflow("w").map("m", over=lambda _: list(range(many)), handler=asking())

    workers = [world.worker(define) for _ in range(2)]
    run = workers[0].start("w", {})
    world.drain(workers[0])
    for n in range(many):
        run.resume("go", n)
    items = [row["id"] for row in world.rows(OLDEST_FIRST, run.id)]
    world.publish()
    for item in items[: HINTED_WAITERS - 2]:
        workers[0].engine.advance(item)
    late = world.publish()
    assert not set(items[HINTED_WAITERS:]) & set(late)

    with world.connect() as blocker, blocker.transaction():
        # Both commits have begun before either is done, and each sees the other still waiting.
        blocker.execute("SELECT 1 FROM durable_inbox FOR UPDATE")
        last = [
            spawn(worker.engine.advance, item)
            for worker, item in zip(
                workers, items[HINTED_WAITERS - 2 : HINTED_WAITERS], strict=True
            )
        ]
        wait_until(lambda: world.waiting_for_locks() == 2, message="both commits")
    for commit in last:
        commit.result(20)
    for token_id in late:
        workers[0].engine.advance(token_id)
    world.drain(workers[0])

    assert sorted(run.result(timeout=0)["m"]) == list(range(many))


def test_a_signal_that_came_before_a_park_whose_answer_was_lost_is_found(
    world: World, lost_parks: list[Executed]
) -> None:
    """P9: its hint was refused, since the token was claimed; nobody else will look."""
    gate = Gate()
    worker = world.worker(lambda durable: durable.workflow("w").step(asking(gate), name="a"))
    run = worker.start("w", {})
    (token_id,) = world.publish()
    at_work = gate.hold(worker.engine.advance, token_id)
    run.resume("go", 1)
    world.drain(worker)
    gate.finish(at_work)
    world.drain(worker)

    assert lost_parks
    assert ended(world, run) == "completed", "without any recovery"


def test_a_signal_in_a_callers_transaction_finds_a_branch_that_is_about_to_wait(
    world: World,
) -> None:
    """P9: nobody had the branch in hand when the signal was sent, and it waits when it commits."""

    def define(durable: Durable) -> None:
        durable.workflow("w").parallel("p", {"x": asking(), "y": noting([], "y", 1)})

    worker = world.worker(define)
    run = worker.start("w", {})
    world.publish()
    advance(world, worker, run, "p")
    queued = world.publish()
    with world.connect() as caller, caller.transaction():
        run.resume("go", 7, session=caller)
        for token_id in queued:
            worker.engine.advance(token_id)
    world.drain(worker)

    assert run.result(timeout=0)["p"] == {"x": 7, "y": 1}


@pytest.mark.parametrize(("window", "told"), [(None, 2), (2, 10)], ids=["all at once", "a window"])
def test_a_branch_that_leaves_wakes_relays_for_a_hint_only(
    world: World, monkeypatch: pytest.MonkeyPatch, window: int | None, told: int
) -> None:
    """P11: the start of a window of two opens eight items one by one, then comes the join."""
    monkeypatch.setattr(notify, "DEBOUNCE", 0.0)
    worker = world.worker(
        lambda durable: durable.workflow("w").map(
            "m", over=lambda _: list(range(10)), handler=noting([], "m"), max_concurrency=window
        )
    )
    run = worker.start("w", {})
    world.publish()
    with world.connect() as relay:
        relay.execute(f"LISTEN {notify.channel('public')}".encode())
        worker.engine.advance(world.token_id(run))
        world.drain(worker)
        assert world.status(run) == "completed"
        with worker.database.autocommit():  # the last answer is read
            pass
        notified = [*relay.notifies(timeout=0)]
    assert len(notified) == told, "the fork, each that opens another item, and the last"
