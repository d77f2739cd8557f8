"""`decide` on the way back: completed units are undone, newest first, whatever happens (P8)."""

import pytest

from celery_durable.core.decision import Decision, End, JournalRecord, Move, Outcome, RunChange
from celery_durable.core.status import Status
from celery_durable.core.token import Flags
from tests.unit.values import (
    BEGAN,
    DECLINED,
    NOW,
    UNDO_RETRY,
    Happened,
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

PLAN = plan(node("a", compensated=True), "b", node("c", compensated=True), "d")

FINAL = [
    pytest.param(failed(may_retry=False, undo="a"), id="gives up"),
    pytest.param(failed(undo="a"), id="attempts used up"),
    pytest.param(crashed("a"), id="workers died"),
]


def test_what_completed_before_is_undone_next() -> None:
    decision = decide(PLAN, undoing("c", attempt=2, crashes=1), succeeded("2", undo="a"), NOW)
    assert decision.then == Move(undoing("a"), undo_place("a"))
    assert decision.run is None


def test_an_undo_is_journaled_as_a_unit_of_its_own_that_cannot_be_undone() -> None:
    token = undoing("c", attempt=2, failures=(attempt(1),))
    (record,) = decide(PLAN, token, succeeded("2", undo="a"), NOW).records
    assert record == JournalRecord(
        unit="c#compensate",
        node="c",
        outcome=Outcome.COMPLETED,
        attempt=2,
        started_at=BEGAN,
        result="2",
        failures=(attempt(1),),
        undoable=False,
    )


@pytest.mark.parametrize("ends_as", [Status.FAILED, Status.CANCELLED])
def test_the_last_undo_ends_the_run_as_it_was_to_end(ends_as: Status) -> None:
    decision = decide(PLAN, undoing("a", ends_as), succeeded(), NOW)
    assert decision.then == End()
    assert decision.run == RunChange(ends_as)


def test_a_failing_undo_is_tried_again_under_its_own_policy_and_placement() -> None:
    token = undoing("c")
    again = undoing("c", attempt=2, failures=(attempt(1),))
    assert decide(PLAN, token, failed(undo="a"), NOW) == Decision(
        token, Move(again, undo_place("c"), delay=UNDO_RETRY.initial)
    )


@pytest.mark.parametrize("event", FINAL)
def test_an_undo_that_fails_for_good_is_journaled_and_the_others_still_run(
    event: Happened,
) -> None:
    decision = decide(PLAN, undoing("c", attempt=UNDO_RETRY.max_attempts), event, NOW)
    assert [(r.unit, r.outcome, r.error) for r in decision.records] == [
        ("c#compensate", Outcome.FAILED, event.error)
    ]
    assert decision.then == Move(undoing("a"), undo_place("a"))
    assert decision.run is None


def test_a_run_whose_last_undo_failed_for_good_ends_failed_with_the_error_it_had() -> None:
    decision = decide(PLAN, undoing("a"), failed(may_retry=False), NOW)
    assert decision.then == End()
    assert decision.run == RunChange(Status.FAILED, error=None)
    assert [r.error for r in decision.records] == [DECLINED]


def test_a_cancelled_run_whose_undo_failed_for_good_ends_failed() -> None:
    token = undoing("c", Status.CANCELLED)
    then = decide(PLAN, token, failed(may_retry=False, undo="a"), NOW).then
    assert isinstance(then, Move)
    decision = decide(PLAN, then.token, succeeded(), NOW)
    assert decision.run is not None
    assert decision.run.status is Status.FAILED


@pytest.mark.parametrize("ends_as", [Status.FAILED, Status.CANCELLED])
@pytest.mark.parametrize("flags", [Flags.CANCEL, Flags.CANCEL | Flags.COMPENSATE])
def test_a_cancel_of_a_run_that_is_compensating_changes_nothing_and_its_flag_is_lowered(
    ends_as: Status, flags: Flags
) -> None:
    token = undoing("c", ends_as, flags=flags, attempt=2, crashes=1, failures=(attempt(1),))
    same = undoing("c", ends_as, attempt=2, crashes=1, failures=(attempt(1),))
    assert decide(PLAN, token, flagged("a", due_in=5.0), NOW) == Decision(
        token, Move(same, undo_place("c"), delay=5.0)
    )


def test_an_undo_that_ends_while_a_cancel_arrives_is_recorded_and_lowers_the_flag() -> None:
    decision = decide(PLAN, undoing("c", flags=Flags.CANCEL), succeeded("2", undo="a"), NOW)
    assert decision.then == Move(undoing("a"), undo_place("a"))
    assert decision.keeps


def test_an_undo_that_fails_while_a_cancel_arrives_is_tried_again_and_lowers_the_flag() -> None:
    decision = decide(PLAN, undoing("c", flags=Flags.CANCEL), failed(undo="a"), NOW)
    assert isinstance(decision.then, Move)
    assert decision.then.token == undoing("c", attempt=2, failures=(attempt(1),))
