"""`decide` under a cancel: no further unit begins; what was in hand counts with `compensate`."""

from dataclasses import replace

import pytest

from celery_durable.core.decision import Decision, End, JournalRecord, Move, Outcome, RunChange
from celery_durable.core.failure import run_timed_out
from celery_durable.core.names import RETURNS
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, Token
from tests.unit.values import (
    BEGAN,
    NOW,
    Happened,
    at,
    attempt,
    crashed,
    decide,
    failed,
    flagged,
    node,
    plan,
    succeeded,
    undo_place,
    undoing,
)

PLAN = plan(node("a", compensated=True), "b", node("c", compensated=True), returns=True)

FAILURES = [
    pytest.param(failed(undo="a"), id="failed"),
    pytest.param(failed(undo="a", delay=5.0, counts=False), id="retry later"),
    pytest.param(crashed("a"), id="workers died"),
]


def cancelled(unit: str, **changes: object) -> Token:
    return at(unit, flags=Flags.CANCEL, **changes)


def cancelled_with_undo(unit: str, **changes: object) -> Token:
    return at(unit, flags=Flags.CANCEL | Flags.COMPENSATE, **changes)


def timed_out(unit: str, **changes: object) -> Token:
    flags = Flags.CANCEL | Flags.COMPENSATE | Flags.RUN_TIMEOUT
    return at(unit, flags=flags, **changes)


def test_a_run_that_took_too_long_fails_with_that_and_names_where_it_stood() -> None:
    token = timed_out("b")
    error = run_timed_out("b")
    assert (error.type, error.unit) == ("RunTimeout", "b")
    ended = decide(PLAN, token, flagged(), NOW)
    assert ended == Decision(token, End(), (), RunChange(Status.FAILED, error))
    undone = decide(PLAN, token, flagged("a"), NOW)
    assert undone.then == Move(undoing("a", Status.FAILED), undo_place("a"))
    assert undone.run == RunChange(Status.COMPENSATING, error)


def test_a_unit_that_was_executed_counts_when_the_run_took_too_long() -> None:
    decision = decide(PLAN, timed_out("c"), succeeded("5", undo="a"), NOW)
    assert decision.then == Move(undoing("c", Status.FAILED), undo_place("c"))
    assert decision.run == RunChange(Status.COMPENSATING, run_timed_out("c"))
    assert [(r.unit, r.outcome) for r in decision.records] == [("c", Outcome.COMPLETED)]


def test_a_run_that_is_compensating_does_not_time_out() -> None:
    token = undoing("a", Status.CANCELLED)
    flags = Flags.CANCEL | Flags.COMPENSATE | Flags.RUN_TIMEOUT
    flagged_token = replace(token, flags=flags)
    decision = decide(PLAN, flagged_token, succeeded(), NOW)
    assert decision.run == RunChange(Status.CANCELLED)


def test_a_cancelled_unit_is_not_executed_and_the_run_ends() -> None:
    token = cancelled("b")
    assert decide(PLAN, token, flagged("a"), NOW) == Decision(
        token, End(), (), RunChange(Status.CANCELLED)
    )


@pytest.mark.parametrize("unit", ["a", "b", "c"])
def test_a_unit_that_was_executed_is_recorded_cancelled_and_its_result_dropped(unit: str) -> None:
    token = cancelled(unit, attempt=2, failures=(attempt(1),))
    record = JournalRecord(
        unit, unit, Outcome.CANCELLED, 2, BEGAN, result=None, failures=(attempt(1),), undoable=False
    )
    decision = decide(PLAN, token, succeeded("5", undo="a"), NOW)
    assert decision == Decision(token, End(), (record,), RunChange(Status.CANCELLED))
    assert not decision.keeps


@pytest.mark.parametrize("event", FAILURES)
def test_a_unit_that_failed_under_a_cancel_is_recorded_failed_and_not_tried_again(
    event: Happened,
) -> None:
    decision = decide(PLAN, cancelled("b"), event, NOW)
    assert decision.then == End()
    assert decision.run == RunChange(Status.CANCELLED, error=None)
    assert [(r.unit, r.outcome, r.error) for r in decision.records] == [
        ("b", Outcome.FAILED, event.error)
    ]


def test_with_compensate_a_success_counts_and_is_undone_first() -> None:
    decision = decide(PLAN, cancelled_with_undo("c"), succeeded("5", undo="a"), NOW)
    assert decision.then == Move(undoing("c", Status.CANCELLED), undo_place("c"))
    assert decision.run == RunChange(Status.COMPENSATING)
    assert [(r.unit, r.outcome, r.result, r.undoable) for r in decision.records] == [
        ("c", Outcome.COMPLETED, "5", True)
    ]


def test_with_compensate_a_success_without_a_compensator_counts_and_what_was_before_is_undone() -> (
    None
):
    decision = decide(PLAN, cancelled_with_undo("b"), succeeded("5", undo="a"), NOW)
    assert decision.then == Move(undoing("a", Status.CANCELLED), undo_place("a"))
    assert decision.keeps


def test_with_compensate_and_nothing_to_undo_the_run_ends_cancelled() -> None:
    decision = decide(plan("a", "b"), cancelled_with_undo("a"), succeeded(), NOW)
    assert decision.then == End()
    assert decision.run == RunChange(Status.CANCELLED)
    assert decision.keeps


@pytest.mark.parametrize("event", FAILURES)
def test_with_compensate_a_failure_is_not_tried_again_and_what_was_before_is_undone(
    event: Happened,
) -> None:
    decision = decide(PLAN, cancelled_with_undo("c"), event, NOW)
    assert decision.then == Move(undoing("a", Status.CANCELLED), undo_place("a"))
    assert decision.run == RunChange(Status.COMPENSATING, error=None)
    assert [(r.unit, r.outcome) for r in decision.records] == [("c", Outcome.FAILED)]


def test_with_compensate_a_unit_that_had_not_begun_is_not_executed_and_the_undo_begins() -> None:
    decision = decide(PLAN, cancelled_with_undo("c"), flagged("a"), NOW)
    assert decision.then == Move(undoing("a", Status.CANCELLED), undo_place("a"))
    assert decision.records == ()


def test_a_cancel_while_the_last_node_is_executed_still_cancels() -> None:
    single = plan(node("a", compensated=True))
    without = decide(single, cancelled("a"), succeeded(), NOW)
    assert without.run == RunChange(Status.CANCELLED)
    with_undo = decide(single, cancelled_with_undo("a"), succeeded(), NOW)
    assert with_undo.then == Move(undoing("a", Status.CANCELLED), undo_place("a"))


@pytest.mark.parametrize("event", [succeeded("5", undo="c"), flagged("c")])
def test_a_cancel_drops_what_returns_made(event: Happened) -> None:
    without = decide(PLAN, cancelled(RETURNS), event, NOW)
    assert without == Decision(cancelled(RETURNS), End(), (), RunChange(Status.CANCELLED))
    with_undo = decide(PLAN, cancelled_with_undo(RETURNS), event, NOW)
    assert with_undo.then == Move(undoing("c", Status.CANCELLED), undo_place("c"))
    assert with_undo.records == ()
    assert with_undo.run == RunChange(Status.COMPENSATING)


@pytest.mark.parametrize("event", [succeeded(undo="a"), failed(undo="a"), flagged("a")])
def test_the_flags_are_lowered_on_the_way_back(event: Happened) -> None:
    then = decide(PLAN, cancelled_with_undo("b"), event, NOW).then
    assert isinstance(then, Move)
    assert then.token.flags is Flags.NONE
