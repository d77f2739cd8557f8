"""P9: a signal is never lost, whether it comes before, while or after the run waits for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.engine.ids import uuid7
from celery_durable.errors import (
    ConfigurationError,
    NotSerializable,
    PayloadTooLarge,
    RunFailed,
    RunNotFound,
)
from celery_durable.store.signals import HINTED_WAITERS, Delivery
from tests.integration.driving import World, all_at_once, error_of
from tests.integration.workflows import asking


def waiting_for(name: str = "go", times: int = 1, **options: Any) -> Any:
    """A workflow that waits for `name` so many times, in the nodes `s0`, `s1`, ..."""

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for n in range(times):
            workflow.wait_for_signal(f"s{n}", name, **options)

    return define


def outcomes(*deliveries: Delivery) -> list[str]:
    return [one.outcome for one in deliveries]


@pytest.mark.parametrize("parked", [False, True])
def test_a_signal_is_consumed_whether_it_comes_before_or_while_the_run_waits(
    world: World, parked: bool
) -> None:
    worker = world.worker(waiting_for())
    run = worker.start("w")
    if parked:
        world.drain(worker)
        assert run.status().status is Status.SUSPENDED
        assert run.status().awaiting_signal == "go"

    delivery = run.resume("go", {"ok": True})

    assert delivery.outcome == "stored"
    assert delivery.accepted
    assert delivery.status is (Status.SUSPENDED if parked else Status.RUNNING)
    world.drain(worker)
    assert run.result(0) == {"s0": {"ok": True}}
    assert world.hints() == 0


def test_a_wait_that_finds_its_signal_at_once_began_when_it_was_come_to(world: World) -> None:
    """Going straight on from one wait to the next, nothing of the first is kept."""

    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("s", "go").wait_for_signal("t", "on")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    parked = world.one("SELECT clock_timestamp()")
    run.resume("on", 2)
    run.resume("go", 1)
    world.drain(worker)

    first, second = run.history()
    assert [first.unit, second.unit] == ["s", "t"]
    assert first.started_at < parked < second.started_at


def test_a_signal_for_a_later_node_waits_for_it(world: World) -> None:
    """The ancestor's fault: an early signal is dropped."""

    def define(durable: Durable) -> None:
        durable.workflow("w").sleep("z", 60).wait_for_signal("s", "go")

    worker = world.worker(define)
    run = worker.start("w")
    run.resume("go", 1)
    world.drain(worker)
    assert run.status().status is Status.SLEEPING

    world.let_time_pass(61)
    world.drain(worker)
    assert run.result(0) == {"z": None, "s": 1}


def test_the_oldest_of_a_name_goes_first(world: World) -> None:
    worker = world.worker(waiting_for(times=4))
    run = worker.start("w")
    run.resume("go", 0)
    run.resume("other", "x")
    run.resume("go", 1)
    world.drain(worker)
    run.resume("go", 2)
    run.resume("go", 3)
    world.drain(worker)

    assert run.result(0) == {"s0": 0, "s1": 1, "s2": 2, "s3": 3}


def test_the_same_key_counts_once_also_after_it_was_consumed(world: World) -> None:
    worker = world.worker(waiting_for(times=2))
    run = worker.start("w")

    first = run.resume("go", 1, key="k")
    again = run.resume("go", 2, key="k")
    world.drain(worker)
    after = run.resume("go", 3, key="k")
    world.drain(worker)

    assert outcomes(first, again, after) == ["stored", "duplicate", "duplicate"]
    assert "'k'" in after.reason
    assert after.accepted
    assert run.status().results == {"s0": 1}
    assert run.resume("go", 4, key="other").outcome == "stored"
    world.drain(worker)
    assert run.result(0) == {"s0": 1, "s1": 4}


def test_a_key_is_of_one_name_and_one_run(world: World) -> None:
    worker = world.worker(waiting_for())
    run, other = worker.start("w"), worker.start("w")

    deliveries = [
        run.resume("go", 1, key="k"),
        run.resume("stop", 1, key="k"),
        other.resume("go", 1, key="k"),
    ]

    assert outcomes(*deliveries) == ["stored"] * 3


def test_of_two_with_the_same_key_at_once_one_is_stored(world: World) -> None:
    worker = world.worker(waiting_for())
    for _ in range(20):
        run = worker.start("w")
        told = all_at_once([partial(run.resume, "go", n, key="k") for n in range(3)])
        assert sorted(outcomes(*told)) == ["duplicate", "duplicate", "stored"]
        world.drain(worker)
        assert run.result(0) == {"s0": outcomes(*told).index("stored")}


def test_a_run_that_has_ended_refuses_and_says_why(world: World) -> None:
    worker = world.worker(waiting_for())
    done, gone, failed = (worker.start("w") for _ in range(3))
    done.resume("go", 1, key="k")
    gone.cancel()
    world.drain(worker)
    world.rows(
        "UPDATE durable_run SET status = 'failed', finished_at = clock_timestamp(), error = '{}'"
        " WHERE id = %s",
        failed.id,
    )

    for run, status in ((done, "completed"), (gone, "cancelled"), (failed, "failed")):
        for key in (None, "k"):
            refused = run.resume("go", 2, key=key)
            assert refused.outcome == "refused"
            assert not refused.accepted
            assert refused.status == status
            assert status in refused.reason
    assert world.counts()["inbox"] == 0


def test_an_unknown_run_cannot_be_resumed(world: World) -> None:
    worker = world.worker(waiting_for())
    with pytest.raises(RunNotFound):
        worker.resume(uuid7(), "go")
    assert world.counts()["inbox"] == 0


def test_a_wait_that_lasts_too_long_fails_the_run(world: World) -> None:
    """The ancestor's fault: a signal timeout is accepted and ignored."""
    worker = world.worker(waiting_for(timeout=60))
    run = worker.start("w")
    world.drain(worker)
    world.let_time_pass(50)
    assert world.drain(worker) == 0
    assert run.status().status is Status.SUSPENDED

    world.let_time_pass(11)
    world.drain(worker)

    with pytest.raises(RunFailed) as caught:
        run.result(0)
    error = error_of(run)
    assert (error.type, error.unit) == ("SignalTimeout", "s0")
    assert "'go'" in str(caught.value)
    assert world.units(run) == ["s0 failed"]


def test_a_wait_that_may_last_too_long_goes_on_without(world: World) -> None:
    worker = world.worker(waiting_for(times=2, timeout=60, on_timeout="continue"))
    run = worker.start("w")
    world.drain(worker)
    world.let_time_pass(61)
    world.drain(worker)
    assert run.status().results == {"s0": None}

    run.resume("go", 1)
    world.drain(worker)
    assert run.result(0) == {"s0": None, "s1": 1}
    assert world.units(run) == ["s0 completed", "s1 completed"]


def test_a_signal_that_is_there_goes_before_a_time_that_has_passed(world: World) -> None:
    worker = world.worker(waiting_for(timeout=60))
    run = worker.start("w")
    world.drain(worker)
    run.resume("go", "in time")
    world.let_time_pass(3600)
    world.drain(worker)

    assert run.result(0) == {"s0": "in time"}


def test_a_timeout_of_no_time_looks_into_the_inbox_once(world: World) -> None:
    worker = world.worker(waiting_for(timeout=0, on_timeout="continue"))
    early, late = worker.start("w"), worker.start("w")
    early.resume("go", 1)
    world.drain(worker)
    assert early.result(0) == {"s0": 1}
    assert late.result(0) == {"s0": None}


def test_the_context_knows_the_newest_signal_that_was_consumed(world: World) -> None:
    seen: list[Any] = []

    def look(ctx: Any) -> None:
        seen.append((ctx.signal("go"), ctx.signal("other")))

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(look, name="before")
        workflow.wait_for_signal("s0", "go").step(look, name="one")
        workflow.wait_for_signal("s1", "go").step(look, name="two")

    worker = world.worker(define)
    run = worker.start("w")
    for payload in ({"n": 1}, {"n": 2}, {"n": 3}):
        run.resume("go", payload)
    run.resume("other", "never waited for")
    world.drain(worker)

    assert seen == [(None, None), ({"n": 1}, None), ({"n": 2}, None)]
    assert world.counts()["inbox"] == 0, "what nobody consumed goes with the run"


def test_a_payload_comes_back_as_it_was(world: World) -> None:
    worker = world.worker(waiting_for(times=5))
    run = worker.start("w")
    payloads = [None, 0, "ä\u2028%s:x", [1.0, {"a": None}], uuid7()]
    for one in payloads:
        run.resume("go", one)
    world.drain(worker)

    assert list(run.result(0).values()) == payloads


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (object(), NotSerializable),
        (float("nan"), NotSerializable),
        ("a\0b", NotSerializable),
        ({1: object()}, NotSerializable),
        ("x" * 2_000, PayloadTooLarge),
    ],
)
def test_data_that_cannot_be_stored_is_refused_at_the_door(
    world: World, data: object, error: type[Exception]
) -> None:
    """P12"""
    worker = world.worker(waiting_for(), max_payload_bytes=1_000)
    run = worker.start("w")
    with pytest.raises(error, match="go"):
        run.resume("go", data)
    assert world.counts()["inbox"] == 0


@pytest.mark.parametrize("name", ["", "x" * 501, "a\0b", "\ud800", None, 7])
def test_a_name_that_nobody_can_wait_for_is_refused(world: World, name: Any) -> None:
    """P12"""
    worker = world.worker(waiting_for())
    run = worker.start("w")
    with pytest.raises(ConfigurationError, match="signal="):
        run.resume(name)
    with pytest.raises(ConfigurationError, match="key="):
        run.resume("go", key="" if name is None else name)
    assert world.counts()["inbox"] == 0


@pytest.mark.parametrize("name", ["cancel", "pause", "unpause"])
def test_a_signal_that_is_called_like_a_command_is_a_signal(world: World, name: str) -> None:
    worker = world.worker(waiting_for(name, times=2))
    run = worker.start("w")
    assert outcomes(run.resume(name, 1, key="k"), run.resume(name, 1, key="k"))[1] == "duplicate"
    world.drain(worker)
    worker.recover()
    assert run.status().results == {"s0": 1}

    run.cancel()
    world.drain(worker)
    assert run.status().status is Status.CANCELLED
    assert world.counts()["inbox"] == 0


def test_signals_that_are_committed_while_their_run_ends_are_forgotten(world: World) -> None:
    worker = world.worker(waiting_for())
    run, other = worker.start("w"), worker.start("w")
    with world.connect() as connection, connection.transaction():
        late = run.resume("go", "late", session=connection)
        run.resume("go", "in time")
        world.drain(worker)
        assert run.result(0) == {"s0": "in time"}
    other.resume("later", 1)
    assert late.outcome == "stored"
    assert world.counts()["inbox"] == 2

    world.drain(worker)
    worker.recover()

    assert [row["run_id"] for row in world.rows("SELECT run_id FROM durable_inbox")] == [other.id]
    assert run.result(0) == {"s0": "in time"}


def test_more_signals_than_are_told_at_once_all_find_those_that_wait(world: World) -> None:
    """Sent together, consumed one after the other; recovery has no part in it."""
    many = 3 * HINTED_WAITERS

    def define(durable: Durable) -> None:
        durable.workflow("w").map("m", over=lambda _: list(range(many)), handler=asking())

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    for number in range(many):
        run.resume("go", number)
    world.drain(worker)
    assert sorted(run.result(1)["m"]) == list(range(many))
