"""What the functions between steps raise, and time limits: always an event, never an exception."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from celery_durable import (
    DatabaseUnavailable,
    Durable,
    GiveUp,
    RetryLater,
    RetryPolicy,
    StepTimeout,
    Suspend,
    Workflow,
)
from celery_durable.core.child import NewRun
from celery_durable.core.claim import Claim
from celery_durable.core.event import Chosen, Failed, Listed, SleepRequested
from celery_durable.core.nodes import ChildNode
from celery_durable.core.status import Status
from celery_durable.core.token import Token
from celery_durable.core.units import unit_of
from celery_durable.store.sqlstates import Hindered
from celery_durable.workflow.context import Context
from celery_durable.workflow.execute import execute
from tests.unit.executing import (
    TOOLS,
    CardDeclined,
    ToldToExit,
    TooSlow,
    error_of_loop,
    executed,
    failure,
    failure_of,
    raising,
)
from tests.unit.nodes import choosing
from tests.unit.values import NOW, FixedJournal, at, claim

Function = Callable[[Any], Any]


def handler(_ctx: Any) -> int:
    return 1


def mapping(function: Function) -> tuple[Workflow, Token]:
    return Durable().workflow("order").map("lines", over=function, handler=handler), at("lines")


def routing(function: Function) -> tuple[Workflow, Token]:
    return Durable().workflow("order").route("rail", function, {"wire": handler}), choosing()


def sleeping(function: Function) -> tuple[Workflow, Token]:
    return Durable().workflow("order").sleep("cooldown", function), at("cooldown")


def spawning(function: Function) -> tuple[Workflow, Token]:
    made = Durable().workflow("order").child_workflow("fulfil", "stock", map_input=function)
    return made, at("fulfil")


BETWEEN = [mapping, routing, sleeping, spawning]


@pytest.mark.parametrize("placed", BETWEEN)
def test_what_a_function_between_steps_raises_fails_its_unit_which_is_tried_once(
    placed: Callable[[Function], tuple[Workflow, Token]],
) -> None:
    error = CardDeclined("no money")
    made, token = placed(raising(error))
    execution = executed(made, token)
    assert isinstance(execution.event, Failed)
    assert execution.event.error.type == "tests.unit.executing.CardDeclined"
    assert (execution.event.error.message, execution.event.error.unit) == ("no money", token.unit)
    assert execution.exception is error
    assert unit_of(made.plan, token).retry.max_attempts == 1


@pytest.mark.parametrize("placed", BETWEEN)
@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), RecursionError(), GiveUp("no"), KeyboardInterrupt(), SystemExit(1)],
)
def test_whatever_a_function_between_steps_raises_is_an_event(
    placed: Callable[[Function], tuple[Workflow, Token]], error: BaseException
) -> None:
    made, token = placed(raising(error))
    assert isinstance(executed(made, token).event, Failed)


@pytest.mark.parametrize("placed", BETWEEN)
def test_what_tells_the_process_to_exit_is_not_a_failure_of_a_function_between_steps(
    placed: Callable[[Function], tuple[Workflow, Token]],
) -> None:
    made, token = placed(raising(ToldToExit()))
    with pytest.raises(ToldToExit):
        executed(made, token)


LOOPING: Mapping[str, Any] = {
    "map_input": lambda function: {"map_input": function},
    "until": lambda function: {"until": lambda *_: function(None)},
    "feedback": lambda function: {"feedback": function},
}


@pytest.mark.parametrize("place", LOOPING)
def test_whatever_a_function_of_a_loop_raises_fails_the_node(place: str) -> None:
    made = Durable().workflow("order")
    options = LOOPING[place](raising(SystemExit("no")))
    made.loop("poll", handler, max_iterations=3, **options)
    event = executed(made, at("poll#0", position=0)).event
    if place == "map_input":
        assert isinstance(event, Failed)
        assert (event.error.type, event.may_retry) == ("SystemExit", False)
        return
    error = error_of_loop(event)
    assert (error.type, error.unit) == ("SystemExit", "poll")


@pytest.mark.parametrize("place", LOOPING)
def test_what_tells_the_process_to_exit_is_not_a_failure_of_a_function_of_a_loop(
    place: str,
) -> None:
    made = Durable().workflow("order")
    made.loop("poll", handler, max_iterations=3, **LOOPING[place](raising(ToldToExit())))
    with pytest.raises(ToldToExit):
        executed(made, at("poll#0", position=0))


@pytest.mark.parametrize(
    ("placed", "given", "told"),
    [
        (mapping, 7, "over= of 'lines' returned int"),
        (mapping, [object()], "item 0 of lines (object) cannot be stored"),
        (routing, "gold", "The selector of 'rail' answered 'gold'; the cases are wire."),
        (routing, object(), "the answer of rail#route (object) cannot be stored"),
        (sleeping, "1h", "The duration of 'cooldown' is str"),
        (sleeping, -1, "The duration of 'cooldown' is -1 s"),
        (spawning, object(), "the input of stock (object) cannot be stored"),
    ],
)
def test_what_a_function_between_steps_returns_wrongly_fails_its_unit(
    placed: Callable[[Function], tuple[Workflow, Token]], given: Any, told: str
) -> None:
    made, token = placed(lambda _ctx: given)
    event = failure_of(made, token)
    assert event.error.message.startswith(told)


def test_the_functions_between_steps_may_be_async() -> None:
    async def answered(ctx: Any) -> Any:
        await asyncio.sleep(0)
        return ctx.input

    made, token = mapping(answered)
    assert executed(made, token, [1]).event == Listed(("1",), NOW)
    made, token = routing(answered)
    assert executed(made, token, "wire").event == Chosen('"wire"', "wire", NOW)
    made, token = sleeping(answered)
    assert executed(made, token, 5).event == SleepRequested(5.0, NOW)


def test_a_list_that_fails_while_it_is_walked_through_is_a_failure() -> None:
    def items(_ctx: Any) -> Any:
        yield 1
        raise CardDeclined("no money")

    made, token = mapping(items)
    event = failure_of(made, token)
    assert event.error.message == "no money"


def test_a_failure_is_named_by_a_class_that_users_know() -> None:
    event = failure(raising(Hindered("a lock is held")))
    assert event.error.type == "DatabaseUnavailable"


def test_a_child_that_cannot_be_made_ready_fails_its_unit() -> None:
    def spawn(claim: Claim, child: ChildNode, input: str | None) -> NewRun:
        raise ValueError(child.workflow, claim.token.unit, input)

    made, token = spawning(handler)
    held = claim(token)
    tools = replace(TOOLS, new_child=spawn)
    execution = execute(made, held, Context(held, FixedJournal()), tools)
    assert isinstance(execution.event, Failed)
    assert execution.event.error.message == "('stock', 'fulfil', '1')"


def test_a_database_that_does_not_answer_is_no_failure_of_a_unit_that_starts_a_child() -> None:
    def spawn(claim: Claim, child: ChildNode, input: str | None) -> NewRun:
        error = DatabaseUnavailable(claim, child, input)
        error.is_given_up = True  # as what the engine has asked for in vain
        raise error

    made, token = spawning(handler)
    held = claim(token)
    with pytest.raises(DatabaseUnavailable):
        execute(made, held, Context(held, FixedJournal()), replace(TOOLS, new_child=spawn))


def test_another_database_that_does_not_answer_a_function_between_steps_is_its_failure() -> None:
    """It is tried once, like whatever else it raises."""
    made, token = mapping(raising(DatabaseUnavailable("theirs")))
    event = failure_of(made, token)
    assert event.error.message == "theirs"


@pytest.mark.parametrize("function", ["until", "feedback"])
def test_the_same_of_the_functions_of_a_loop(function: str) -> None:
    def asks(*_: Any) -> Any:
        raise DatabaseUnavailable("theirs")

    options: dict[str, Any] = {function: asks}
    made = Durable().workflow("order").loop("poll", handler, max_iterations=3, **options)
    event = executed(made, replace(at("poll#0"), position=0)).event
    assert error_of_loop(event).message == "theirs"


def test_a_handler_whose_time_limit_has_passed_is_a_step_timeout() -> None:
    event = failure(raising(TooSlow()), limit=3)
    assert (event.error.type, event.error.unit) == ("StepTimeout", "charge")
    assert "charge took longer than its" in event.error.message
    assert "TooSlow" in event.error.traceback
    assert event.may_retry


def test_a_time_limit_is_told_in_the_failure() -> None:
    made = Durable().workflow("order").step(raising(TooSlow()), name="charge", timeout=2.5)
    event = failure_of(made, at("charge"), 2.5)
    assert event.error.message == "charge took longer than its 2.5 s (timeout=)"


def test_a_time_limit_of_the_settings_is_told_as_theirs() -> None:
    message = failure(raising(TooSlow()), limit=7).error.message
    assert message == "charge took longer than its 7 s (durable_step_timeout)"


def test_a_time_limit_of_a_compensator_is_its_own() -> None:
    step = Durable().step(name="charge")(handler)
    step.compensate(timeout=4)(raising(TooSlow()))
    token = at("charge#compensate", rollback=Status.FAILED)
    event = failure_of(Durable().workflow("order").step(step), token, 4)
    assert event.error.message == "charge#compensate took longer than its 4 s (timeout=)"


def test_the_time_limit_of_something_else_in_a_step_without_one_is_an_ordinary_failure() -> None:
    event = failure(raising(TooSlow("the other task")))
    assert event.error.type == "tests.unit.executing.TooSlow"
    assert event.error.message == "the other task"


def test_a_policy_may_give_up_on_timeouts() -> None:
    patient = RetryPolicy(give_up_on=StepTimeout)  # type: ignore[arg-type]
    made = Durable().workflow("order").step(raising(TooSlow()), name="charge", retry=patient)
    event = failure_of(made, at("charge"), 3)
    assert not event.may_retry


def test_a_time_limit_that_passes_in_until_is_a_step_timeout_of_the_loop() -> None:
    def until(_result: Any, _done: int) -> bool:
        raise TooSlow

    made = Durable().workflow("order").loop("poll", handler, max_iterations=3, until=until)
    event = executed(made, at("poll#0", position=0), limit=3).event
    error = error_of_loop(event)
    assert (error.type, error.unit) == ("StepTimeout", "poll")


def test_retry_later_of_a_selector_asks_it_again() -> None:
    made, token = routing(raising(RetryLater(5)))
    event = failure_of(made, token)
    assert (event.delay, event.counts) == (5.0, False)


@pytest.mark.parametrize(("kind", "unit"), [("undo", "charge#compensate"), ("returns", "#returns")])
def test_what_cannot_suspend_fails_and_says_so(kind: str, unit: str) -> None:
    made = Durable().workflow("order")
    asks = lambda _ctx: Suspend("kept")  # noqa: E731
    if kind == "undo":
        made.step(Durable().step(name="charge", compensate=asks)(handler))
        token = at(unit, rollback=Status.FAILED)
    else:
        made.step(handler, name="charge").returns(asks)
        token = at(unit)
    assert isinstance(executed(made, token).event, Failed)
