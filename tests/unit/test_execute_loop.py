"""Executing iterations: what `map_input`, `until` and `feedback` are given, and what they say."""

from typing import Any

import pytest

from celery_durable import Durable, GiveUp, Workflow
from celery_durable.core.event import Failed, Iteration, Succeeded
from celery_durable.core.status import Status
from tests.unit.executing import error_of_loop, executed
from tests.unit.nodes import iteration
from tests.unit.values import NOW, at


def double(ctx: Any) -> Any:
    return ctx.item * 2


def loop(**options: Any) -> Workflow:
    return Durable().workflow("order").loop("poll", double, max_iterations=10, **options)


def succeeded(made: Workflow, position: int = 0, item: str | None = None) -> Succeeded:
    event = executed(made, iteration(position, input=item), 5).event
    assert isinstance(event, Succeeded)
    return event


def test_an_iteration_without_functions_has_the_run_s_input_and_goes_on() -> None:
    assert succeeded(loop()) == Succeeded("10", NOW, iteration=Iteration())


def test_until_is_given_the_result_and_how_many_iterations_are_done() -> None:
    asked: list[tuple[Any, int]] = []

    def until(result: Any, done: int) -> bool:
        asked.append((result, done))
        return done == 3

    made = loop(until=until)
    said = [succeeded(made, position).iteration for position in range(3)]
    assert said == [Iteration(), Iteration(), Iteration(is_done=True)]
    assert asked == [(10, 1), (10, 2), (10, 3)]


@pytest.mark.parametrize(("answer", "is_done"), [(1, True), ("", False), (None, False)])
def test_whatever_until_returns_is_true_or_not(answer: Any, is_done: bool) -> None:
    said = succeeded(loop(until=lambda _result, _done: answer)).iteration
    assert said == Iteration(is_done=is_done)


def test_feedback_makes_the_next_input_of_the_result() -> None:
    said = succeeded(loop(feedback=lambda result: [result])).iteration
    assert said == Iteration(next_input="[10]")


def test_feedback_of_nothing_is_an_input_too() -> None:
    said = succeeded(loop(feedback=lambda _result: None)).iteration
    assert said == Iteration(next_input="null")


def test_the_last_iteration_feeds_nothing_back() -> None:
    def feedback(_result: Any) -> Any:
        raise AssertionError

    made = loop(until=lambda _result, _done: True, feedback=feedback)
    assert succeeded(made).iteration == Iteration(is_done=True)


def test_map_input_makes_the_input_of_the_first_iteration_and_no_other() -> None:
    made = loop(map_input=lambda ctx: ctx.input + 1, feedback=lambda result: result)
    assert succeeded(made, 0).result == "12"
    assert succeeded(made, 1, item="7").result == "14"


def test_without_feedback_the_input_stays_as_map_input_made_it() -> None:
    made = loop(map_input=lambda ctx: ctx.input + 1)
    assert succeeded(made, 0).iteration == Iteration(next_input="6")
    assert succeeded(made, 1, item="6").iteration == Iteration(next_input="6")


def test_map_input_is_called_once_for_an_iteration() -> None:
    calls: list[Any] = []

    def count(_ctx: Any) -> int:
        calls.append(None)
        return len(calls)

    assert succeeded(loop(map_input=count)) == Succeeded(
        "2", NOW, iteration=Iteration(next_input="1")
    )


async def is_done(result: Any, done: int) -> bool:
    return bool(result == 10 and done == 1)


async def fed_back(result: Any) -> Any:
    return result + 1


async def made_input(ctx: Any) -> Any:
    return ctx.input + 1


def test_the_functions_of_a_loop_may_be_async() -> None:
    assert succeeded(loop(until=is_done)).iteration == Iteration(is_done=True)
    assert succeeded(loop(feedback=fed_back)).iteration == Iteration(next_input="11")
    assert succeeded(loop(map_input=made_input)).result == "12"


def broken(*_args: Any) -> Any:
    raise GiveUp("no")


async def broken_async(*_args: Any) -> Any:
    raise GiveUp("no")


@pytest.mark.parametrize("name", ["until", "feedback"])
@pytest.mark.parametrize("function", [broken, broken_async])
def test_what_until_or_feedback_raise_fails_the_node_and_the_iteration_counts(
    name: str, function: Any
) -> None:
    event = succeeded(loop(**{name: function}))
    assert event.result == "10"
    error = error_of_loop(event)
    assert (error.type, error.message, error.unit) == ("GiveUp", "no", "poll")


def test_feedback_without_json_fails_the_node() -> None:
    event = succeeded(loop(feedback=lambda _result: object()))
    assert error_of_loop(event).message.startswith("the feedback of poll#0 (object) cannot be")


def test_until_is_not_asked_about_a_result_that_cannot_be_stored() -> None:
    made = Durable().workflow("order")
    made.loop("poll", lambda _ctx: object(), max_iterations=3, until=broken)
    event = executed(made, iteration(0)).event
    assert isinstance(event, Failed)
    assert event.error.message.startswith("the result of poll#0")


@pytest.mark.parametrize("function", [broken, broken_async, lambda _ctx: object()])
def test_what_map_input_raises_or_makes_fails_the_iteration(function: Any) -> None:
    event = executed(loop(map_input=function), iteration(0), 5).event
    assert isinstance(event, Failed)
    assert not event.may_retry
    assert event.error.unit == "poll#0"


def test_the_undo_of_an_iteration_asks_none_of_the_loop_s_functions() -> None:
    durable = Durable()
    step = durable.step(name="ask", compensate=lambda _ctx: "undone")(double)
    made = durable.workflow("order").loop(
        "poll", step, max_iterations=3, until=broken, feedback=broken, map_input=broken
    )
    token = at("poll#0#compensate", rollback=Status.FAILED, position=0)
    assert executed(made, token).event == Succeeded('"undone"', NOW)
