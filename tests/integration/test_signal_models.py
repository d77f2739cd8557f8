"""A wait for a signal with a `schema` takes data that fits, and refuses any other out loud."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

from celery_durable import Durable, PayloadError, Suspend
from celery_durable.run import Run
from celery_durable.store import definitions
from tests.integration.driving import World


class Approval(BaseModel):
    ok: bool
    amount: int = Field(ge=1)


@dataclass
class Verdict:
    ok: bool
    note: str = ""


def waits(model: Any = Approval, **options: Any) -> Callable[[Durable], None]:
    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("signoff", schema=model, **options).step(
            lambda ctx: repr(ctx.results["signoff"]), name="after"
        )

    return define


def reasons(run: Run) -> str:
    return str(run.why())


@pytest.mark.parametrize("parked", [False, True])
def test_the_result_of_the_wait_is_an_instance_of_the_model(world: World, parked: bool) -> None:
    worker = world.worker(waits())
    run = worker.start("w")
    if parked:
        world.drain(worker)
    run.resume("signoff", {"ok": True, "amount": "7"})
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=7)
    assert run.result(0)["after"] == "Approval(ok=True, amount=7)"


def test_a_dataclass_is_a_model_too(world: World) -> None:
    worker = world.worker(waits(Verdict))
    run = worker.start("w")
    run.resume("signoff", {"ok": True})
    world.drain(worker)
    assert run.result(0)["signoff"] == Verdict(True)


def test_resume_refuses_what_does_not_fit_names_the_fields_and_writes_nothing(world: World) -> None:
    worker = world.worker(waits())
    run = worker.start("w")
    with pytest.raises(PayloadError) as refused:
        run.resume("signoff", {"amount": 0})
    assert str(refused.value) == (
        "The data of the signal 'signoff' is not a Approval: ok: Field required;"
        " amount: Input should be greater than or equal to 1"
    )
    assert set(refused.value.fields) == {"ok", "amount"}
    assert world.counts()["inbox"] == 0


def test_a_wrong_signal_that_slips_past_is_refused_when_the_run_comes_to_it_and_the_wait_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    worker, stranger = world.worker(waits()), world.worker()
    run = worker.start("w")
    world.drain(worker)
    stranger.resume(run.id, "signoff", {"ok": "perhaps", "amount": 1}, key="k")
    with caplog.at_level(logging.WARNING):
        world.drain(worker)

    assert run.status().awaiting_signal == "signoff"
    (warning,) = [one.message for one in caplog.records if "refused" in one.message]
    assert str(run.id) in warning
    assert "ok: Input should be a valid boolean" in warning
    assert "the last one was refused: The data of the signal 'signoff' is not a Approval: ok:" in (
        reasons(run)
    )
    assert world.hints(run) == 0

    # Set right, it counts, with the same key.
    assert (
        stranger.resume(run.id, "signoff", {"ok": True, "amount": 1}, key="k").outcome == "stored"
    )
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=1)


def test_of_several_early_signals_the_first_that_fits_is_taken(world: World) -> None:
    worker, stranger = world.worker(waits()), world.worker()
    run = worker.start("w")
    for amount in (0, "x", 3, 4):
        stranger.resume(run.id, "signoff", {"ok": True, "amount": amount})
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=3)


def test_sql_is_refused_like_any_stranger(world: World) -> None:
    worker = world.worker(waits())
    run = worker.start("w")
    for data in ('"no"', '{"ok": true, "amount": 2}'):
        world.rows("SELECT public.durable_resume(%s, 'signoff', %s::json)", run.id, data)
    world.drain(worker)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=2)


@dataclass
class Strict:
    amount: int

    def __post_init__(self) -> None:
        assert self.amount >= 0, "less than nothing"


def test_a_model_that_raises_anything_refuses_a_signal_by_sql_and_the_right_one_counts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    worker = world.worker(waits(Strict))
    run = worker.start("w")
    world.drain(worker)
    with pytest.raises(PayloadError, match="AssertionError: less than nothing"):
        run.resume("signoff", {"amount": -1})
    world.rows("SELECT public.durable_resume(%s, 'signoff', '{\"amount\": -1}')", run.id)
    world.drain(worker)
    assert run.status().awaiting_signal == "signoff"
    assert "is not a Strict: AssertionError: less than nothing" in reasons(run)
    world.rows("SELECT public.durable_resume(%s, 'signoff', '{\"amount\": 1}')", run.id)
    world.drain(worker)
    assert run.result(0)["signoff"] == Strict(1)


def test_a_refused_signal_is_none_that_a_handler_reads(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").wait_for_signal("signoff", schema=Approval)
        workflow.step(lambda ctx: ctx.signal("signoff")["amount"], name="read")

    worker, stranger = world.worker(define), world.worker()
    run = worker.start("w")
    stranger.resume(run.id, "signoff", {"ok": True, "amount": 1})
    stranger.resume(run.id, "signoff", {"ok": True, "amount": -1})
    world.drain(worker)
    assert run.result(0)["read"] == 1


def test_a_refused_signal_does_not_count_as_an_answer_in_time(world: World) -> None:
    worker, stranger = world.worker(waits(timeout=60, on_timeout="continue")), world.worker()
    run = worker.start("w")
    world.drain(worker)
    stranger.resume(run.id, "signoff", "no")
    world.drain(worker)
    world.let_time_pass(61)
    world.drain(worker)
    assert run.result(0)["signoff"] is None


def test_bulk_refuses_what_no_version_takes(world: World) -> None:
    worker = world.worker(waits())
    worker.start("w")
    with pytest.raises(PayloadError, match="is not a Approval"):
        worker.bulk("resume", workflow="w", signal="signoff", data={"ok": 1})
    assert world.counts()["inbox"] == 0
    worker.bulk("resume", workflow="w", signal="signoff", data={"ok": 1, "amount": 2})
    world.drain(worker)
    (run,) = worker.list()
    assert worker.run(run.run_id).result(0)["signoff"] == Approval(ok=True, amount=2)


def test_the_stored_plan_has_the_schema_so_that_a_page_need_not_import_the_app(
    world: World,
) -> None:
    worker = world.worker(waits(assignees=["ann", "bob", "ann"]))
    worker.start("w")
    with worker.database.autocommit() as connection:
        stored = definitions.plan(connection, "w", 1)
    assert stored is not None
    node = stored["nodes"][0]
    assert node["schema"]["propertyOrder"] == ["ok", "amount"]
    assert node["schema"]["properties"]["amount"]["minimum"] == 1
    assert node["assignees"] == ["ann", "bob"]


def test_a_plan_without_the_options_is_stored_as_before(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    worker.start("w")
    with worker.database.autocommit() as connection:
        stored = definitions.plan(connection, "w", 1)
    assert stored is not None
    assert stored["nodes"][0].keys() == {
        *("kind", "name", "unit", "queue", "priority", "time_limit"),
        *("signal", "timeout", "goes_on_without"),
    }


def test_a_changed_schema_holds_for_runs_that_wait(world: World) -> None:
    """Nothing of the way to the wait has changed: the run goes on with the new definition."""
    old = world.worker(waits(Verdict))
    run = old.start("w")
    world.drain(old)
    new = world.worker(waits(Approval))
    new.start("w")  # stores the plan
    with new.database.autocommit() as connection:
        stored = definitions.plan(connection, "w", 1)
    assert stored is not None
    assert stored["nodes"][0]["schema"]["title"] == "Approval"
    new.resume(run.id, "signoff", {"ok": True, "amount": 5})
    world.drain(new)
    assert run.result(0)["signoff"] == Approval(ok=True, amount=5)


def test_a_run_that_is_tried_again_inherits_the_instance(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").wait_for_signal("signoff", schema=Approval)
        workflow.step(lambda ctx: 1 / (ctx.results["signoff"].amount - 1), name="after")

    worker = world.worker(define, default_retry={"max_attempts": 1})
    run = worker.start("w")
    run.resume("signoff", {"ok": True, "amount": 1})
    world.drain(worker)
    again = worker.retry(run.id)
    assert again.status().results["signoff"] == Approval(ok=True, amount=1)


def token_assignees(world: World, run: Run) -> Any:
    return world.token(run)["assignees"]


def test_a_wait_with_a_schema_is_for_any_operator_unless_people_are_named(world: World) -> None:
    worker = world.worker(waits())
    run = worker.start("w")
    world.drain(worker)
    assert token_assignees(world, run) == []


def test_a_wait_for_a_machine_is_for_nobody(world: World) -> None:
    worker = world.worker(lambda durable: durable.workflow("w").wait_for_signal("go"))
    run = worker.start("w")
    world.drain(worker)
    assert token_assignees(world, run) is None


def test_a_function_says_who_may_answer_when_the_run_comes_to_the_wait(world: World) -> None:
    def define(durable: Durable) -> None:
        workflow = durable.workflow("w").step(lambda _: ["ann", "bob"], name="find")
        workflow.wait_for_signal("go", assignees=lambda ctx: ctx.results["find"])

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    assert token_assignees(world, run) == ["ann", "bob"]
    assert run.status().awaiting_signal == "go"
    run.resume("go", 1)
    world.drain(worker)
    assert run.result(0)["go"] == 1


def test_a_signal_that_came_before_is_taken_after_the_function_has_said_who(world: World) -> None:
    worker = world.worker(
        lambda durable: durable.workflow("w").wait_for_signal("go", assignees=lambda _: {"ann"})
    )
    run = worker.start("w")
    run.resume("go", 1)
    world.drain(worker)
    assert run.result(0) == {"go": 1}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("ann", "assignees= of 'go' returned no names: 'ann' is no sequence of names."),
        ([1], "assignees= of 'go' returned no names: 1 is no name of 1 to 200 characters."),
        (["x"] * 2 + [str(n) for n in range(100)], "101 names are more than 100."),
    ],
)
def test_a_function_that_names_nobody_fails_the_node(world: World, answer: Any, error: str) -> None:
    worker = world.worker(
        lambda durable: durable.workflow("w").wait_for_signal("go", assignees=lambda _: answer)
    )
    run = worker.start("w")
    world.drain(worker)
    status = run.status()
    assert status.status == "failed"
    assert status.error is not None
    assert error in status.error.message


def test_a_suspended_step_is_for_those_whom_it_names(world: World) -> None:
    def ask(ctx: Any) -> Any:
        if ctx.is_resumed:
            return ctx.resume_data
        return Suspend(assignees=["ann"] if ctx.input else ())

    worker = world.worker(lambda durable: durable.workflow("w").step(ask))
    named, open_to_all = worker.start("w", True), worker.start("w", False)
    world.drain(worker)
    assert token_assignees(world, named) == ["ann"]
    assert token_assignees(world, open_to_all) == []
    named.resume("ask", 1)
    world.drain(worker)
    assert named.result(0) == {"ask": 1}


def test_nobody_is_asked_any_more_when_the_run_has_gone_on(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.workflow("w").wait_for_signal("signoff", schema=Approval).wait_for_signal("go")

    worker = world.worker(define)
    run = worker.start("w")
    world.drain(worker)
    run.resume("signoff", {"ok": True, "amount": 1})
    world.drain(worker)
    assert run.status().awaiting_signal == "go"
    assert token_assignees(world, run) is None


def test_a_value_that_a_form_makes_is_stored_and_checked_as_any_other(world: World) -> None:
    """What looks like the library's own notation in somebody's data is data."""
    worker, stranger = world.worker(waits()), world.worker()
    run = worker.start("w")
    forged = {"__type__": "pydantic", "__value__": {"class": f"{__name__}:Approval", "state": {}}}
    stranger.resume(run.id, "signoff", json.loads(json.dumps(forged)))
    world.drain(worker)
    assert run.status().awaiting_signal == "signoff"
