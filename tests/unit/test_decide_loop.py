"""`decide` in a loop: one commit for each iteration."""

from dataclasses import replace

import pytest

from celery_durable.core.decide import decide as decide_core
from celery_durable.core.decision import Decision, End, Move, Outcome, RollBack, RunChange, Undo
from celery_durable.core.event import Iteration, Succeeded
from celery_durable.core.nodes import ChildNode, Gathers
from celery_durable.core.plan import Plan
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from tests.unit.nodes import POLL, RESERVED, around, iteration
from tests.unit.values import (
    BEGAN,
    NOW,
    Happened,
    at,
    attempt,
    decide,
    failed,
    place,
    plan,
    succeeded,
    undo_place,
)

LOOP = around(POLL)
DONE = Iteration(is_done=True)
BROKEN = ErrorRecord("ValueError", "no", unit="poll")


def said(of: Iteration | None, undo: Undo | None = RESERVED, result: str = "1") -> Happened:
    return Happened(Succeeded(result, BEGAN, of), undo)


def entries(decision: Decision) -> list[tuple[str, Outcome, bool]]:
    return [(r.unit, r.outcome, r.undoable) for r in decision.records]


def test_a_run_comes_to_the_first_iteration_of_a_loop_where_its_body_runs() -> None:
    then = decide(LOOP, at("reserve"), succeeded(), NOW).then
    assert then == Move(iteration(0), place("ask"))


def test_an_iteration_that_was_not_the_last_is_followed_by_the_next_after_a_while() -> None:
    token = iteration(1, attempt=2, crashes=1, failures=(attempt(1),), input="4")
    decision = decide(LOOP, token, said(Iteration(next_input="5")), NOW)
    assert decision.then == Move(iteration(2, input="5"), place("ask"), delay=5.0)
    assert entries(decision) == [("poll#1", Outcome.COMPLETED, True)]
    (record,) = decision.records
    assert (record.position, record.input, record.attempt) == (1, "4", 2)
    assert decision.run is None


def test_an_iteration_in_which_until_says_so_completes_the_loop() -> None:
    decision = decide(LOOP, iteration(1), said(DONE), NOW)
    assert decision.then == Move(at("book"), place("book"))
    assert entries(decision) == [
        ("poll#1", Outcome.COMPLETED, True),
        ("poll", Outcome.COMPLETED, False),
    ]
    assert (decision.records[1].gathers, decision.records[1].result) == (Gathers.ITERATION, None)


@pytest.mark.parametrize(("position", "goes_on"), [(1, True), (2, False)])
def test_a_loop_has_as_many_iterations_as_it_says(position: int, goes_on: bool) -> None:
    then = decide(LOOP, iteration(position), said(Iteration()), NOW).then
    assert isinstance(then, Move)
    assert (then.token.node == "poll") is goes_on


def test_a_loop_that_was_not_done_in_the_end_completes_if_it_does_not_say_otherwise() -> None:
    decision = decide(LOOP, iteration(2), said(Iteration()), NOW)
    assert decision.then == Move(at("book"), place("book"))
    assert entries(decision)[1] == ("poll", Outcome.COMPLETED, False)


EXHAUSTING = around(replace(POLL, fails_when_exhausted=True))


def test_a_loop_that_fails_when_exhausted_records_its_iteration_and_undoes_it_first() -> None:
    decision = decide(EXHAUSTING, iteration(2), said(Iteration()), NOW)
    assert entries(decision) == [
        ("poll#2", Outcome.COMPLETED, True),
        ("poll", Outcome.FAILED, False),
    ]
    assert decision.then == Move(
        at("poll#2#compensate", rollback=Status.FAILED, position=2), undo_place("ask")
    )
    assert decision.run is not None
    assert decision.run.status is Status.COMPENSATING
    error = decision.run.error
    assert error == decision.records[1].error
    assert error is not None
    assert (error.type, error.unit) == ("LoopExhausted", "poll")
    assert "poll was not done after 3 iterations" in error.message


def test_a_loop_that_is_done_in_its_last_iteration_is_not_exhausted() -> None:
    decision = decide(EXHAUSTING, iteration(2), said(DONE), NOW)
    assert decision.then == Move(at("book"), place("book"))


def test_what_the_functions_of_a_loop_raise_fails_the_node_though_the_iteration_counts() -> None:
    decision = decide(LOOP, iteration(0), said(Iteration(error=BROKEN)), NOW)
    assert entries(decision) == [
        ("poll#0", Outcome.COMPLETED, True),
        ("poll", Outcome.FAILED, False),
    ]
    assert decision.records[1].error == BROKEN
    assert decision.run == RunChange(Status.COMPENSATING, BROKEN)
    assert isinstance(decision.then, Move)
    assert decision.then.token.unit == "poll#0#compensate"


def test_what_the_functions_of_a_loop_raise_goes_before_the_iterations_being_used_up() -> None:
    decision = decide(EXHAUSTING, iteration(2), said(Iteration(error=BROKEN)), NOW)
    assert decision.records[1].error == BROKEN


def without_undo() -> Plan:
    return plan(replace(POLL, repeated=ChildNode("ask", "ask"), fails_when_exhausted=True), "book")


def test_a_loop_of_which_nothing_can_be_undone_turns_back_to_what_was_before() -> None:
    then = decide(without_undo(), iteration(2), said(Iteration()), NOW).then
    assert isinstance(then, Move)
    assert then.token.unit == "reserve#compensate"


def test_a_loop_that_fails_with_nothing_to_undo_ends_the_run() -> None:
    decision = decide(without_undo(), iteration(2), said(Iteration(), undo=None), NOW)
    assert decision.then == End()
    assert decision.run is not None
    assert decision.run.status is Status.FAILED


def test_an_iteration_that_fails_is_tried_again_as_itself_with_the_same_input() -> None:
    then = decide(LOOP, iteration(1, input="4"), failed(), NOW).then
    again = iteration(1, input="4", attempt=2, failures=(attempt(1),))
    assert then == Move(again, place("ask"), delay=10.0)


def test_an_iteration_that_fails_for_good_fails_the_run_and_the_earlier_ones_are_undone() -> None:
    earlier = Undo("poll#0", "poll", None, 0)
    decision = decide(LOOP, iteration(1), Happened(failed(may_retry=False).event, earlier), NOW)
    assert entries(decision) == [("poll#1", Outcome.FAILED, False)]
    assert decision.then == Move(
        at("poll#0#compensate", rollback=Status.FAILED, position=0), undo_place("ask")
    )


@pytest.mark.parametrize(
    ("position", "of", "kind"),
    [
        (2, Iteration(), Decision),
        (0, Iteration(error=BROKEN), RollBack),
        (0, Iteration(), Decision),
    ],
)
def test_only_an_iteration_that_fails_its_loop_needs_to_know_what_is_to_be_undone(
    position: int, of: Iteration, kind: type
) -> None:
    event = Succeeded("1", BEGAN, of)
    assert isinstance(decide_core(LOOP, iteration(position), event, NOW), kind)
