"""`decide` on the way forward: success, failure, another attempt, a final failure."""

from dataclasses import replace
from datetime import timedelta

import pytest

from celery_durable.core import units
from celery_durable.core.decision import Decision, End, JournalRecord, Move, Outcome, RunChange
from celery_durable.core.event import Failed
from celery_durable.core.failure import KEPT_ATTEMPTS, FailedAttempt
from celery_durable.core.names import RETURNS
from celery_durable.core.nodes import Routing
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import Status
from tests.unit.values import (
    BEGAN,
    DECLINED,
    LOST,
    NOW,
    Happened,
    at,
    attempt,
    crashed,
    decide,
    failed,
    flagged,
    node,
    place,
    plan,
    succeeded,
    undo_place,
)

ABC = plan("a", node("b", compensated=True), "c")


def completed(unit: str, *, undoable: bool = False) -> JournalRecord:
    return JournalRecord(unit, unit, Outcome.COMPLETED, 1, BEGAN, result="1", undoable=undoable)


def test_a_success_moves_on_to_the_next_node() -> None:
    assert decide(ABC, at("a"), succeeded(), NOW) == Decision(
        at("a"), Move(at("b"), place("b"), delay=0.0), (completed("a"),)
    )


def test_a_completed_unit_with_a_compensator_can_be_undone() -> None:
    decision = decide(ABC, at("b"), succeeded(), NOW)
    assert decision.records == (completed("b", undoable=True),)
    assert decision.keeps


def test_only_what_completed_the_unit_in_hand_keeps_what_it_did() -> None:
    assert decide(ABC, at("b"), succeeded(), NOW).keeps
    assert not decide(ABC, at("b"), failed(), NOW).keeps
    assert not decide(ABC, at("b"), failed(may_retry=False), NOW).keeps
    assert not decide(ABC, at("b"), flagged(), NOW).keeps


def test_what_belonged_to_a_unit_stays_in_its_record_and_does_not_move_on() -> None:
    tried = at("a", attempt=2, crashes=1, failures=(attempt(1),))
    decision = decide(ABC, tried, succeeded(), NOW)
    assert decision.then == Move(at("b"), place("b"))
    assert decision.records == (replace(completed("a"), attempt=2, failures=(attempt(1),)),)


def test_the_success_of_the_last_node_completes_the_run() -> None:
    assert decide(ABC, at("c"), succeeded(), NOW) == Decision(
        at("c"), End(), (completed("c"),), RunChange(Status.COMPLETED)
    )


def test_a_plan_with_returns_makes_the_result_where_messages_go_by_default() -> None:
    decision = decide(plan("a", returns=True), at("a", attempt=2), succeeded(), NOW)
    assert decision.then == Move(at(RETURNS), Routing())
    assert decision.run is None


def test_what_returns_made_is_the_result_of_the_run_and_not_journaled() -> None:
    decision = decide(plan("a", returns=True), at(RETURNS), succeeded("42"), NOW)
    assert decision == Decision(at(RETURNS), End(), (), RunChange(Status.COMPLETED, result="42"))


def test_returns_is_tried_once() -> None:
    with_returns = plan(node("a", compensated=True), returns=True)
    decision = decide(with_returns, at(RETURNS), failed(undo="a"), NOW)
    assert [(r.unit, r.outcome) for r in decision.records] == [(RETURNS, Outcome.FAILED)]
    assert decision.run == RunChange(Status.COMPENSATING, DECLINED)


def test_a_failed_attempt_is_followed_by_another_after_the_delay_of_the_policy() -> None:
    decision = decide(ABC, at("b"), failed(), NOW)
    told = FailedAttempt(1, DECLINED, BEGAN, NOW)
    again = at("b", attempt=2, failures=(told,))
    assert decision == Decision(at("b"), Move(again, place("b"), delay=10.0))


def test_the_chance_of_a_failure_is_its_jitter() -> None:
    policy = RetryPolicy(backoff="linear", initial=10, jitter=True)
    decision = decide(plan(node("a", retry=policy)), at("a", attempt=2), failed(chance=0.5), NOW)
    assert isinstance(decision.then, Move)
    assert decision.then.delay == policy.delay_after(2, 0.5) == 15.0


def test_crashes_are_not_forgotten_by_another_attempt() -> None:
    decision = decide(ABC, at("b", crashes=2), failed(), NOW)
    assert isinstance(decision.then, Move)
    assert decision.then.token.crashes == 2


def test_failed_attempts_are_bounded_and_the_first_is_kept() -> None:
    patient = plan(node("a", retry=RetryPolicy(max_attempts=1_000, jitter=False)))
    token = at("a")
    for _ in range(50):
        moved = decide(patient, token, failed(), NOW).then
        assert isinstance(moved, Move)
        token = moved.token
    kept = [failure.attempt for failure in token.failures]
    assert kept == [1, *range(51 - KEPT_ATTEMPTS + 1, 51)]
    assert len(kept) == KEPT_ATTEMPTS == 20


def test_retry_later_says_the_delay_itself() -> None:
    decision = decide(ABC, at("a"), failed(delay=99.0), NOW)
    assert isinstance(decision.then, Move)
    assert (decision.then.token.attempt, decision.then.delay) == (2, 99.0)


def test_a_failure_with_a_limit_of_its_own_is_tried_again_past_the_last_attempt() -> None:
    event = Failed(DECLINED, NOW, delay=99.0, is_bounded=False)
    decision = decide(ABC, at("a", attempt=3), event, NOW)
    assert isinstance(decision.then, Move)
    assert (decision.then.token.attempt, decision.then.delay) == (4, 99.0)


def test_retry_later_that_counts_ends_with_the_last_attempt() -> None:
    decision = decide(ABC, at("a", attempt=3), failed(delay=99.0, counts=True), NOW)
    assert decision.run == RunChange(Status.FAILED, DECLINED)


@pytest.mark.parametrize("tries", [1, 3])
def test_retry_later_that_does_not_count_leaves_the_attempt_as_it_is(tries: int) -> None:
    decision = decide(ABC, at("a", attempt=tries), failed(delay=99.0, counts=False), NOW)
    assert isinstance(decision.then, Move)
    assert (decision.then.token.attempt, decision.then.delay) == (tries, 99.0)
    assert (decision.records, decision.run) == ((), None)


def test_give_up_ends_the_trying_though_attempts_are_left() -> None:
    decision = decide(ABC, at("a"), failed(may_retry=False), NOW)
    assert decision.then == End()


ELAPSING = plan(node("a", retry=RetryPolicy(max_attempts=9, initial=4, max_elapsed=10)))


@pytest.mark.parametrize(("began_before", "goes_on"), [(6.0, True), (6.1, False)])
def test_no_attempt_begins_later_than_max_elapsed_after_the_first_began(
    began_before: float, goes_on: bool
) -> None:
    first = attempt(1, NOW - timedelta(seconds=began_before))
    token = at("a", attempt=3, failures=(first, attempt(2, NOW)))
    decision = decide(ELAPSING, token, failed(delay=4.0), NOW)
    assert isinstance(decision.then, Move) is goes_on


@pytest.mark.parametrize(("took", "goes_on"), [(6.0, True), (6.1, False)])
def test_max_elapsed_counts_from_the_begin_of_the_first_attempt(took: float, goes_on: bool) -> None:
    event = Failed(DECLINED, NOW - timedelta(seconds=took), delay=4.0)
    assert isinstance(decide(ELAPSING, at("a"), event, NOW).then, Move) is goes_on


def test_max_elapsed_ends_attempts_that_do_not_count_too() -> None:
    token, now = at("a"), NOW
    for _ in range(5):
        event = Failed(DECLINED, now, delay=4.0, counts=False)
        then = decide(ELAPSING, token, event, now).then
        if isinstance(then, End):
            return
        assert isinstance(then, Move)
        token, now = then.token, now + timedelta(seconds=then.delay)
    pytest.fail(f"an attempt began {now - NOW} after the first, of at most 10 s")


@pytest.mark.parametrize(
    "event",
    [failed(may_retry=False), failed(may_retry=False, delay=1.0, counts=False), crashed()],
    ids=["gives up", "gives up uncounted", "workers died"],
)
def test_a_final_failure_with_nothing_to_undo_ends_the_run_failed(event: Happened) -> None:
    token = at("b", attempt=2, failures=(attempt(1),))
    record = JournalRecord(
        "b", "b", Outcome.FAILED, 2, BEGAN, error=event.error, failures=(attempt(1),)
    )
    assert decide(ABC, token, event, NOW) == Decision(
        token, End(), (record,), RunChange(Status.FAILED, event.error)
    )


@pytest.mark.parametrize(
    "event", [failed(may_retry=False, undo="b"), crashed("b")], ids=["gives up", "workers died"]
)
def test_a_final_failure_turns_back_to_what_is_to_be_undone(event: Happened) -> None:
    token = at("c", attempt=2, crashes=1, failures=(attempt(1),))
    decision = decide(ABC, token, event, NOW)
    assert decision.then == Move(at("b#compensate", rollback=Status.FAILED), undo_place("b"))
    assert decision.run == RunChange(Status.COMPENSATING, event.error)
    assert [(r.unit, r.outcome, r.undoable) for r in decision.records] == [
        ("c", Outcome.FAILED, False)
    ]


def test_a_unit_that_failed_is_not_undone_itself() -> None:
    decision = decide(ABC, at("b"), failed(may_retry=False), NOW)
    assert decision.then == End()
    assert not decision.records[0].undoable


def test_a_unit_whose_workers_died_is_not_tried_again_though_attempts_are_left() -> None:
    decision = decide(ABC, at("b", crashes=3), crashed(), NOW)
    assert decision.run == RunChange(Status.FAILED, LOST)
    assert decision.then == End()


def test_a_unit_that_was_looked_at_for_a_flag_that_is_down_stays_where_it_is() -> None:
    token = at("b", attempt=2, crashes=1, failures=(attempt(1),))
    assert decide(ABC, token, flagged(), NOW) == Decision(token, Move(token, place("b")))


def test_a_unit_that_waits_between_attempts_goes_on_waiting_after_a_flag_that_is_down() -> None:
    token = at("b", attempt=2, failures=(attempt(1),))
    assert decide(ABC, token, flagged(due_in=30.0), NOW).then == Move(token, place("b"), delay=30.0)


def test_a_unit_whose_node_has_left_the_plan_is_tried_once_where_messages_go_by_default() -> None:
    gone = at("gone")
    assert units.unit_of(ABC, gone).routing == Routing()
    assert units.unit_of(ABC, gone).retry.max_attempts == 1
