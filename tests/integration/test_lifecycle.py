"""Changes between statuses that need no claim of a worker: pauses, cancels, deadlines, retries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy, Status
from celery_durable.run import Run
from tests.integration.driving import World

WITHOUT_A_CLAIM = {
    ("sleeping", "paused"),
    ("suspended", "paused"),
    ("paused", "sleeping"),
    ("paused", "suspended"),
    ("sleeping", "cancelled"),
    ("suspended", "cancelled"),
    ("paused", "cancelled"),
    ("sleeping", "failed"),
    ("suspended", "failed"),
    ("paused", "failed"),
    ("failed", "compensating"),
}


def define(durable: Durable) -> None:
    durable.workflow("sleeping", timeout=3600).sleep("s", 60)
    durable.workflow("suspended", timeout=3600).wait_for_signal("go")
    failed = iter([ValueError("once")])

    def undo(_: Any) -> None:
        for error in failed:
            raise error

    def fail(_: Any) -> None:
        raise ValueError("no")

    once = RetryPolicy(1)
    first = durable.step(lambda _: 1, name="first")
    first.compensate(undo, retry=once)
    failing = durable.step(fail, name="second", retry=once)
    durable.workflow("failed").step(first).step(failing)


def pause(_: World, run: Run) -> None:
    run.pause()


def unpause(_: World, run: Run) -> None:
    run.unpause()


def cancel(_: World, run: Run) -> None:
    run.cancel()


def undo_again(_: World, run: Run) -> None:
    run._runs.retry_compensation(run.id)


def take_too_long(world: World, run: Run) -> None:
    world.rows("UPDATE durable_run SET times_out_at = now()")
    run._runs.recover()  # type: ignore[attr-defined]


Do = Callable[[World, Run], None]


@pytest.mark.parametrize(
    ("workflow", "first", "then", "change"),
    [
        ("sleeping", (), pause, ("sleeping", "paused")),
        ("suspended", (), pause, ("suspended", "paused")),
        ("sleeping", (pause,), unpause, ("paused", "sleeping")),
        ("suspended", (pause,), unpause, ("paused", "suspended")),
        ("sleeping", (), cancel, ("sleeping", "cancelled")),
        ("suspended", (), cancel, ("suspended", "cancelled")),
        ("sleeping", (pause,), cancel, ("paused", "cancelled")),
        ("sleeping", (), take_too_long, ("sleeping", "failed")),
        ("suspended", (), take_too_long, ("suspended", "failed")),
        ("sleeping", (pause,), take_too_long, ("paused", "failed")),
        ("failed", (), undo_again, ("failed", "compensating")),
    ],
)
def test_a_status_is_followed_by_one_that_it_can_become(
    world: World, workflow: str, first: tuple[Do, ...], then: Do, change: tuple[str, str]
) -> None:
    before, after = change
    worker = world.worker(define)
    run = worker.start(workflow)
    world.drain(worker)
    for do in first:
        do(world, run)
    assert run.status().status == before
    then(world, run)
    assert run.status().status == after
    assert Status(before).can_become(after)
    assert change in WITHOUT_A_CLAIM
