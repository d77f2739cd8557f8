"""A timer that nobody waits for any more does not stay in the outbox until its time."""

from __future__ import annotations

import pytest

from celery_durable import Durable, RetryPolicy
from tests.integration.driving import Define, World, noting
from tests.integration.workflows import fail

DAY = 86_400.0


PARKED: dict[str, Define] = {
    "signal": lambda durable: durable.workflow("w").wait_for_signal("go", timeout=DAY),
    "sleep": lambda durable: durable.workflow("w").sleep("nap", DAY),
    "backoff": lambda durable: durable.workflow("w").step(
        fail, retry=RetryPolicy(2, initial=DAY, maximum=DAY, jitter=False)
    ),
    "backoff of a branch": lambda durable: durable.workflow("w").parallel(
        "both",
        [
            durable.step(fail, retry=RetryPolicy(2, initial=DAY, maximum=DAY, jitter=False)),
            noting([], "b"),
        ],
    ),
}


def test_a_signal_that_comes_takes_its_timeout_away(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("go", timeout=DAY).wait_for_signal(
            "then", timeout=2 * DAY
        )

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert world.hints(run) == 1

    run.resume("go")
    world.drain(worker)
    assert world.hints(run) == 1, "the second timeout, and nothing of the first"

    run.resume("then")
    world.drain(worker)
    assert run.status().status == "completed"
    assert world.hints() == 0


@pytest.mark.parametrize("kind", PARKED)
def test_a_cancel_takes_the_time_away_that_was_waited_for(world: World, kind: str) -> None:
    worker = world.worker(PARKED[kind])
    run = worker.start("w")
    world.drain(worker)
    assert world.hints(run) == 1

    run.cancel()
    world.drain(worker)
    assert run.status().status == "cancelled"
    assert world.hints() == 0
