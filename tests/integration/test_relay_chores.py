"""What a relay looks after besides the outbox (P5)."""

from __future__ import annotations

import pytest

from celery_durable.background.relay import Chore
from celery_durable.store import inbox
from celery_durable.store.inbox import Cancel
from tests.integration.driving import PATIENCE, Gate, World
from tests.integration.relaying import Recorder, Relays, a_worker_at_work, hanging, is_listening
from tests.waiting import wait_until

SOON = PATIENCE / 2
"""Seconds; when its own patience is over, the step fails, and gives the token back by itself."""


def test_a_broker_that_hangs_holds_up_no_takeover(world: World, relays: Relays) -> None:
    hung = Gate()

    with a_worker_at_work(world) as (victim, token_id):
        victim.start("slow", {})
        relays.run(victim, hanging(hung))
        hung.wait_until_reached()
        world.kill(victim)
        claim = "SELECT claimed_by FROM durable_token WHERE id = %s"
        freed = "the token to be freed"
        wait_until(lambda: world.one(claim, token_id) is None, timeout=SOON, message=freed)
        hung.open()


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("odd")], ids=["exit", "bug"])
def test_a_chore_goes_on_whatever_is_raised_in_it(
    world: World, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    tries: list[None] = []

    def odd_at_first() -> tuple[int, float]:
        tries.append(None)
        if len(tries) == 1:
            raise error
        return 0, 0.0

    with Chore(world.worker().database, "durable-odd", "The odd chore", odd_at_first):
        wait_until(lambda: "The odd chore goes on" in caplog.text, message="the chore to go on")
    assert caplog.text.count(f"The odd chore tries again: {type(error).__name__}") == 1


def test_what_was_freed_is_published_though_nobody_polls(world: World, relays: Relays) -> None:
    recorder = Recorder()
    with a_worker_at_work(world) as (victim, token_id):
        relays.run(world.worker(poll_interval=600), recorder)
        wait_until(lambda: is_listening(world), message="the relay to listen")
        world.kill(victim)
        hinted = "the hint to another worker"
        wait_until(lambda: token_id in recorder.tokens(), timeout=SOON, message=hinted)
        relays.made[0].stop()
        victim.notify._last_sent = 0.0
        victim.notify()


def test_a_command_that_cannot_be_applied_holds_up_no_takeover(
    world: World, relays: Relays
) -> None:
    """P5: somebody has locked the rows of other runs for long."""
    with a_worker_at_work(world) as (victim, token_id):
        stuck = [victim.start("slow", {}) for _ in range(3)]
        with world.connect() as holder, holder.transaction():
            for run in stuck:
                holder.execute("SELECT FROM durable_run WHERE id = %s FOR UPDATE", [run.id])
                with victim.database.autocommit() as connection:
                    inbox.send(connection, run.id, Cancel(compensate=False, reason=None))
            relays.run(world.worker(), Recorder())
            wait_until(world.waiting_for_locks, message="a command to wait")
            world.kill(victim)
            claim = "SELECT claimed_by FROM durable_token WHERE id = %s"
            freed = "the token to be freed"
            wait_until(lambda: world.one(claim, token_id) is None, timeout=5, message=freed)
