"""`decide` where a token waits: for a signal, for an answer, for a time."""

from dataclasses import replace

import pytest

from celery_durable.core.decision import (
    Decision,
    End,
    JournalRecord,
    Leave,
    Move,
    Outcome,
    Park,
    RunChange,
)
from celery_durable.core.event import Arrived, Elapsed, Signalled, SleepRequested, Suspended
from celery_durable.core.nodes import Node, Routing
from celery_durable.core.status import Status
from celery_durable.core.token import ForSignal, ForTimer, Token
from tests.unit.nodes import (
    AWAITING,
    CHECKS,
    COOLDOWN,
    EVERYTHING,
    POLL,
    RAIL,
    RESERVED,
    SIGNOFF,
    SLEEPING,
    TOO_LATE,
    around,
    branch,
    case,
    iteration,
)
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

SIGNAL, SLEEP, STEP = around(SIGNOFF), around(COOLDOWN), plan("a", "b")

ELAPSED = Elapsed(TOO_LATE, BEGAN)
APPROVED = Signalled(8, '{"ok":true}', BEGAN)
ASKS = Suspended('{"step":1}', BEGAN)


def test_a_signal_that_is_not_there_yet_is_waited_for_as_long_as_the_node_says() -> None:
    assert decide(SIGNAL, at("signoff"), Arrived(), NOW) == Decision(
        at("signoff"), Park(AWAITING, Routing(), timeout=90.0)
    )


def test_a_signal_without_a_timeout_is_waited_for_for_ever() -> None:
    endless = around(replace(SIGNOFF, timeout=None))
    then = decide(endless, at("signoff"), Arrived(), NOW).then
    assert then == Park(AWAITING, Routing(), timeout=None)


@pytest.mark.parametrize("token", [at("signoff"), AWAITING], ids=["early", "waited for"])
def test_a_signal_is_consumed_and_its_payload_is_the_result(token: Token) -> None:
    assert decide(SIGNAL, token, APPROVED, NOW) == Decision(
        token,
        Move(at("book"), place("book")),
        (JournalRecord("signoff", "signoff", Outcome.COMPLETED, 1, BEGAN, result='{"ok":true}'),),
        consumes=8,
    )


def test_a_signal_that_does_not_come_in_time_fails_the_node() -> None:
    decision = decide(SIGNAL, AWAITING, Happened(ELAPSED, RESERVED), NOW)
    assert [(r.unit, r.outcome, r.error) for r in decision.records] == [
        ("signoff", Outcome.FAILED, TOO_LATE)
    ]
    assert decision.run == RunChange(Status.COMPENSATING, TOO_LATE)
    assert decision.then == Move(
        at("reserve#compensate", rollback=Status.FAILED), undo_place("reserve")
    )


def test_a_signal_that_does_not_come_in_time_is_null_where_the_node_goes_on_without() -> None:
    patient = around(replace(SIGNOFF, goes_on_without=True))
    decision = decide(patient, AWAITING, ELAPSED, NOW)
    assert decision.then == Move(at("book"), place("book"))
    assert [(r.outcome, r.result) for r in decision.records] == [(Outcome.COMPLETED, "null")]
    assert decision.consumes is None


@pytest.mark.parametrize(("seconds", "waits"), [(60.0, 60.0), (0.0, 0.0), (-5.0, 0.0)])
def test_a_sleep_waits_as_long_as_it_says_and_never_a_negative_time(
    seconds: float, waits: float
) -> None:
    decision = decide(SLEEP, at("cooldown"), SleepRequested(seconds, BEGAN), NOW)
    assert decision == Decision(at("cooldown"), Park(SLEEPING, Routing(), timeout=waits))


def test_a_sleep_whose_time_has_come_completes_with_null() -> None:
    decision = decide(SLEEP, SLEEPING, ELAPSED, NOW)
    assert decision.then == Move(at("book"), place("book"))
    assert [(r.unit, r.outcome, r.result) for r in decision.records] == [
        ("cooldown", Outcome.COMPLETED, "null")
    ]


def test_a_duration_that_raises_fails_the_sleep_at_the_first_try() -> None:
    decision = decide(plan(COOLDOWN), at("cooldown"), failed(), NOW)
    assert decision.then == End()
    assert decision.run is not None
    assert decision.run.status is Status.FAILED


def test_a_step_that_suspends_is_parked_with_what_it_keeps_and_nothing_is_recorded() -> None:
    token = at("b", attempt=2, crashes=1, failures=(attempt(1),))
    parked = at("b", attempt=2, failures=(attempt(1),), wait=ForSignal("b"), snapshot='{"step":1}')
    decision = decide(STEP, token, ASKS, NOW)
    assert decision == Decision(token, Park(parked, place("b"), timeout=None, assignees=()))
    assert decision.keeps


def test_a_step_says_itself_which_signal_it_waits_for_and_for_how_long() -> None:
    then = decide(STEP, at("b"), Suspended("1", BEGAN, signal="approval", timeout=30.0), NOW).then
    assert isinstance(then, Park)
    assert (then.token.wait, then.timeout) == (ForSignal("approval"), 30.0)


PARKED = at("b", wait=ForSignal("b"), snapshot='{"step":1}')
RESUMED = at("b", snapshot='{"step":1}', answer='{"ok":true}')


def test_a_suspended_step_is_resumed_as_itself_with_the_answer_and_what_it_kept() -> None:
    assert decide(STEP, PARKED, APPROVED, NOW) == Decision(
        PARKED, Move(RESUMED, place("b")), consumes=8
    )


def test_a_resumed_step_that_fails_is_tried_again_with_the_answer_and_what_it_kept() -> None:
    then = decide(STEP, RESUMED, failed(), NOW).then
    again = replace(RESUMED, attempt=2, failures=(attempt(1),))
    assert then == Move(again, place("b"), delay=10.0)


def test_a_step_may_suspend_again_and_the_old_answer_is_gone() -> None:
    then = decide(STEP, RESUMED, Suspended('{"step":2}', BEGAN), NOW).then
    again = at("b", wait=ForSignal("b"), snapshot='{"step":2}')
    assert then == Park(again, place("b"), timeout=None, assignees=())


def test_what_a_suspended_step_kept_does_not_go_on_to_the_next() -> None:
    then = decide(plan("b", "c"), RESUMED, succeeded(), NOW).then
    assert then == Move(at("c"), place("c"))


def test_an_answer_that_does_not_come_in_time_fails_the_step_and_is_not_tried_again() -> None:
    decision = decide(STEP, PARKED, ELAPSED, NOW)
    assert decision.then == End()
    assert decision.run == RunChange(Status.FAILED, TOO_LATE)


@pytest.mark.parametrize(
    ("token", "node"),
    [(branch("fraud"), CHECKS), (case("wire"), RAIL), (iteration(1, input="4"), POLL)],
    ids=["branch", "case", "iteration"],
)
def test_whatever_calls_a_step_may_suspend_and_is_resumed_as_itself(
    token: Token, node: Node
) -> None:
    of = around(node)
    parked = decide(of, token, ASKS, NOW).then
    assert isinstance(parked, Park)
    kept = replace(token, snapshot='{"step":1}')
    assert parked.token == replace(kept, wait=ForSignal(token.unit))
    resumed = decide(of, parked.token, APPROVED, NOW).then
    assert resumed == Move(replace(kept, answer='{"ok":true}'), parked.routing)


def test_a_branch_whose_answer_does_not_come_in_time_fails_and_leaves() -> None:
    waiting = branch("fraud", wait=ForSignal("checks#fraud"))
    decision = decide(EVERYTHING, waiting, ELAPSED, NOW)
    assert decision.then == Leave(failed=True)
    assert [(r.unit, r.outcome) for r in decision.records] == [("checks#fraud", Outcome.FAILED)]
    assert decision.run is None


def test_only_a_sleep_takes_its_time_for_success() -> None:
    assert decide(EVERYTHING, SLEEPING, ELAPSED, NOW).keeps
    assert not decide(EVERYTHING, AWAITING, ELAPSED, NOW).keeps
    assert not decide(EVERYTHING, at("book", wait=ForSignal("book")), ELAPSED, NOW).keeps
    assert SLEEPING.wait == ForTimer()
