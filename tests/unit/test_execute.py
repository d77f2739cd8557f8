"""Running user code: whatever a handler does becomes an event that can be stored."""

import json
from typing import Any

import pytest

from celery_durable import GiveUp, RetryLater
from celery_durable.core.event import Failed, Succeeded
from celery_durable.core.names import RETURNS
from celery_durable.core.status import Status
from tests.unit.executing import (
    CardDeclined,
    ToldToExit,
    executed,
    failure,
    outcome,
    raising,
    workflow,
)
from tests.unit.values import NOW, at


class OwnError(BaseException):
    pass


def test_what_a_handler_returns_is_a_success_with_its_json() -> None:
    execution = outcome(lambda ctx: {"charged": ctx.input, "at": NOW}, input=5)
    assert isinstance(execution.event, Succeeded)
    assert json.loads(execution.event.result or "")["charged"] == 5
    assert execution.event.started_at == NOW
    assert execution.exception is None


def test_a_handler_that_returns_nothing_succeeded_with_null() -> None:
    assert outcome(lambda _ctx: None).event == Succeeded("null", NOW)


def test_the_policy_of_the_step_says_what_is_tried_again() -> None:
    assert failure(raising(ValueError())).may_retry
    assert not failure(raising(CardDeclined())).may_retry


def test_the_chance_for_jitter_is_drawn_afresh_for_every_failure() -> None:
    drawn = {failure(raising(ValueError())).chance for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= chance < 1 for chance in drawn)


def test_give_up_is_not_tried_again() -> None:
    event = failure(raising(GiveUp("no money")))
    assert not event.may_retry
    assert event.error.message == "no money"


@pytest.mark.parametrize("counts", [True, False])
def test_retry_later_is_tried_again_when_it_says(counts: bool) -> None:
    event = failure(raising(RetryLater(90, counts=counts, reason="busy")))
    assert event.may_retry
    assert (event.delay, event.counts, event.error.message) == (90.0, counts, "busy")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (object(), "the result of charge (object) cannot be stored"),
        ({"card": float("nan")}, "the result of charge['card'] (float) cannot be stored"),
        ("x" * 2_000, "the result of charge is 2002 bytes of JSON, the limit is 1000"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_without_being_tried_again(
    result: object, told: str
) -> None:
    event = failure(lambda _ctx: result)
    assert not event.may_retry
    assert event.error.message.startswith(told)
    assert event.error.unit == "charge"


def test_a_result_that_contains_itself_fails_without_being_tried_again() -> None:
    circular: list[object] = []
    circular.append(circular)
    assert not failure(lambda _ctx: circular).may_retry


def test_the_error_of_a_unit_that_is_not_there_is_a_failure_too() -> None:
    event = executed(workflow(raising(ValueError())), at("gone")).event
    assert isinstance(event, Failed)


def test_what_tells_the_process_to_exit_is_not_a_failure_of_the_handler() -> None:
    with pytest.raises(ToldToExit):
        outcome(raising(ToldToExit()))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SystemExit("no such file"), "SystemExit"),
        (KeyboardInterrupt("no such file"), "KeyboardInterrupt"),
        (GeneratorExit("no such file"), "GeneratorExit"),
        (OwnError("no such file"), "tests.unit.test_execute.OwnError"),
    ],
)
def test_whatever_else_a_handler_raises_is_its_failure(error: BaseException, kind: str) -> None:
    execution = outcome(raising(error))
    assert isinstance(execution.event, Failed)
    assert execution.event.may_retry
    told = execution.event.error
    assert (told.type, told.message, told.unit) == (kind, "no such file", "charge")
    assert "raise error" in told.traceback
    assert execution.exception is error


def test_on_the_way_back_the_compensator_is_called_with_the_result_to_undo() -> None:
    made = workflow(raising(ValueError()), undo=lambda ctx: [ctx.unit, ctx.result])
    event = executed(made, at("charge#compensate", rollback=Status.FAILED)).event
    assert event == Succeeded('["charge#compensate",7]', NOW)


def test_a_compensator_has_a_retry_policy_of_its_own() -> None:
    made = workflow(lambda _ctx: None, undo=raising(CardDeclined()))
    event = executed(made, at("charge#compensate", rollback=Status.FAILED)).event
    assert isinstance(event, Failed)
    assert event.may_retry


def test_returns_is_given_the_results() -> None:
    made = workflow(lambda _ctx: None, returns=lambda ctx: ctx.results["charge"] + 1)
    assert executed(made, at(RETURNS)).event == Succeeded("8", NOW)


def test_the_function_of_a_unit_is_the_users_own() -> None:
    def undo(_ctx: Any) -> None:
        pass

    step = raising(ValueError())
    made = workflow(step, undo=undo, returns=undo)
    assert made.step_of("charge", None).function is step
    assert made.step_of("charge", None).compensator is undo
    assert made.result_function is undo
