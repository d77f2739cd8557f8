"""`durable pause`, `unpause`, `retry`, `retry-now`, `skip` and `retry-compensation`."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from celery_durable import Durable, RetryPolicy, Run
from celery_durable.cli.application import user_and_host
from tests.integration.commanding import Cli, assert_refused
from tests.integration.driving import ONCE, World, defining


class Charge:
    """A step that fails until it is mended."""

    is_mended = False

    def __call__(self, ctx: Any) -> Any:
        if not self.is_mended:
            raise ValueError("no money")
        return ctx.input


@pytest.fixture
def charge() -> Charge:
    return Charge()


def started(world: World, charge: Charge, retry: RetryPolicy) -> tuple[Durable, Run]:
    """A run with the key `k` that has failed once at `charge`, its second step."""

    def define(durable: Durable) -> None:
        reserve = durable.step(lambda _: None, name="reserve")
        durable.workflow("w").step(reserve).step(charge, name="charge", retry=retry)

    durable = world.worker(define)
    run = durable.start("w", {"n": 1}, key="k")
    world.drain(durable)
    return durable, run


def test_a_run_is_paused_and_unpaused(world: World, call: Cli) -> None:
    durable = world.worker(defining([], "a"))
    run = durable.start("w", key="k")
    said = call(durable.app, "pause", str(run.id), "--reason", "an incident")
    assert (said.code, said.out) == (0, "The run is paused.\n")
    again = call(durable.app, "pause", "--workflow", "w", "--run-key", "k", "--json").document
    assert (again["run_id"], again["changed"]) == (str(run.id), False)
    world.drain(durable)
    why = call(durable.app, "why", str(run.id))
    assert why.out.splitlines()[0].startswith(
        f"The run is paused by {user_and_host()}: an incident  since "
    )
    assert f"durable unpause {run.id}" in why.out

    assert call(durable.app, "unpause", str(run.id)).out == "The run goes on.\n"
    assert call(durable.app, "unpause", str(run.id)).out == "The run was not paused.\n"
    world.drain(durable)
    assert world.status(run) == "completed"


def test_a_workflow_and_a_step_are_paused_and_listed(world: World, call: Cli) -> None:
    durable = world.worker(defining([], "a"))
    run = durable.start("w")
    assert call(durable.app, "pause", "--list").out == "PAUSED  RUN  SINCE  BY  REASON\n"
    named = ("--workflow", "w", "--version", "1", "--step", "a")
    assert call(durable.app, "pause", *named).out == "Step a of workflow w version 1 is paused.\n"
    listed = call(durable.app, "pause", "--list", "--json").document
    assert [(one["workflow"], one["version"], one["step"]) for one in listed] == [("w", 1, "a")]
    assert [one["by"] for one in listed] == [user_and_host()]
    assert "step a of workflow w version 1" in call(durable.app, "pause", "--list").out
    why = call(durable.app, "why", str(run.id)).out
    assert "durable unpause --workflow w --version 1 --step a" in why
    assert call(durable.app, "unpause", *named).code == 0
    world.drain(durable)
    assert world.status(run) == "completed"


def test_what_cannot_be_paused_is_refused(world: World, call: Cli) -> None:
    durable = world.worker(defining([], "a"))
    run = durable.start("w")
    world.drain(durable)
    assert_refused(call(durable.app, "pause"), 2, "Name a run, a workflow or a step")
    assert_refused(call(durable.app, "pause", "--workflow", "x"), 3, "'x'")
    assert_refused(call(durable.app, "pause", "--step", "b"), 2, "No step")
    assert_refused(call(durable.app, "pause", str(uuid4())), 3, "durable list")
    assert_refused(call(durable.app, "pause", str(run.id)), 1, "has ended, completed")


def test_a_unit_is_tried_now(world: World, call: Cli, charge: Charge) -> None:
    durable, run = started(world, charge, RetryPolicy(initial=3600))
    charge.is_mended = True
    assert call(durable.app, "retry-now", str(run.id)).out == "Tried now: charge.\n"
    world.drain(durable)
    assert world.status(run) == "completed"
    assert_refused(call(durable.app, "retry-now", str(run.id)), 1, "has ended, completed")


def test_a_paused_unit_says_so_everywhere(world: World, call: Cli, charge: Charge) -> None:
    durable, run = started(world, charge, RetryPolicy(max_attempts=1, on_exhausted="pause"))
    assert "paused" in call(durable.app, "list").out
    shown = call(durable.app, "show", str(run.id)).out
    assert "has used up its tries" in shown
    why = call(durable.app, "why", "--workflow", "w", "--run-key", "k")
    first, *remedy = why.out.splitlines()
    assert first.startswith(
        "charge has used up its tries, attempt 1 of 1, after ValueError: no money"
    )
    assert f"durable retry-now {run.id} --unit charge" in remedy[-1]


def test_a_unit_is_skipped(world: World, call: Cli, charge: Charge) -> None:
    durable, run = started(world, charge, RetryPolicy(max_attempts=1, on_exhausted="pause"))
    named = (str(run.id), "--unit", "charge", "--result", '{"by": "hand"}')
    assert call(durable.app, "skip", *named).out == "charge is recorded as completed.\n"
    world.drain(durable)
    assert run.status().results["charge"] == {"by": "hand"}
    assert_refused(call(durable.app, "skip", *named), 1, "has ended")
    assert_refused(call(durable.app, "skip", str(run.id)), 2, "--unit")


def test_a_run_is_tried_again(world: World, call: Cli, charge: Charge) -> None:
    durable, run = started(world, charge, ONCE)
    charge.is_mended = True
    found = call(durable.app, "retry", "--workflow", "w", "--run-key", "k", "--json").document
    assert found["forked_from"] == str(run.id)
    world.drain(durable)
    new = durable.run(UUID(found["run_id"]))
    assert new.result(timeout=5)["charge"] == {"n": 1}
    assert_refused(call(durable.app, "retry", str(run.id)), 1, "was tried again as run")


def test_a_run_is_tried_again_from_a_step_with_another_input(
    world: World, call: Cli, charge: Charge
) -> None:
    durable, run = started(world, charge, ONCE)
    charge.is_mended = True
    said = call(durable.app, "retry", str(run.id), "--from", "reserve", "--input", "null")
    assert said.out.startswith("Started run ")
    world.drain(durable)
    assert durable.run(workflow="w", key="k").result(timeout=5)["charge"] is None
    other = durable.start("w")
    assert_refused(call(durable.app, "retry", str(other.id)), 1, "has not ended")
    assert_refused(call(durable.app, "retry", str(run.id), "--from", "x"), 1, "was tried again")


def test_failed_compensations_are_tried_again(world: World, call: Cli, charge: Charge) -> None:
    def define(durable: Durable) -> None:
        step = durable.step(lambda _: None, name="a")
        step.compensate(charge, retry=ONCE)
        durable.workflow("w").step(step).step(Charge(), name="b", retry=ONCE)

    durable = world.worker(define)
    run = durable.start("w")
    world.drain(durable)
    charge.is_mended = True
    said = call(durable.app, "retry-compensation", str(run.id), "--json").document
    assert said == {"run_id": str(run.id), "status": "compensating"}
    world.drain(durable)
    assert run.status().compensation_errors == {}
    assert_refused(call(durable.app, "retry-compensation", str(run.id)), 1, "No compensation")
