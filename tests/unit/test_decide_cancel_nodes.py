"""`decide` under a cancel where a token waits, chooses, forks or is a branch."""

from dataclasses import replace

import pytest

from celery_durable.core.decision import (
    Decision,
    End,
    Leave,
    Move,
    Outcome,
    RunChange,
    Undo,
)
from celery_durable.core.event import (
    Arrived,
    ChildEnded,
    ChildRequested,
    Chosen,
    Elapsed,
    Event,
    Flagged,
    Iteration,
    Joined,
    Listed,
    Signalled,
    SleepRequested,
    Succeeded,
    Suspended,
)
from celery_durable.core.nodes import Node
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForChild, ForSignal, Token
from tests.unit.nodes import (
    AWAITING,
    CHECKS,
    CHILD,
    CHILD_FAILED,
    EVERYTHING,
    FORKED,
    LINES,
    MAPPED,
    RESERVED,
    SLEEPING,
    STARTED,
    TOO_LATE,
    WITH_CHILD,
    around,
    branch,
    case,
    choosing,
    item,
    iteration,
)
from tests.unit.values import (
    BEGAN,
    DECLINED,
    NOW,
    Happened,
    at,
    crashed,
    decide,
    failed,
    undo_place,
)

FLAGS = [Flags.CANCEL, Flags.CANCEL | Flags.COMPENSATE]
WITH_UNDO = Flags.CANCEL | Flags.COMPENSATE

SUSPENDED_STEP = at("book", wait=ForSignal("book"), snapshot="1")

NOT_EXECUTED = [
    pytest.param(AWAITING, Flagged(), id="waits for a signal"),
    pytest.param(AWAITING, Signalled(8, "1", BEGAN), id="the signal came too late"),
    pytest.param(AWAITING, Elapsed(TOO_LATE, BEGAN), id="the signal did not come"),
    pytest.param(at("signoff"), Arrived(), id="comes to a signal"),
    pytest.param(at("signoff"), Signalled(8, "1", BEGAN), id="the signal came early"),
    pytest.param(SLEEPING, Flagged(), id="sleeps"),
    pytest.param(SLEEPING, Elapsed(TOO_LATE, BEGAN), id="wakes"),
    pytest.param(at("cooldown"), SleepRequested(60.0, BEGAN), id="comes to a sleep"),
    pytest.param(SUSPENDED_STEP, Flagged(), id="is suspended"),
    pytest.param(SUSPENDED_STEP, Signalled(8, "1", BEGAN), id="the answer came too late"),
    pytest.param(SUSPENDED_STEP, Elapsed(TOO_LATE, BEGAN), id="the answer did not come"),
    pytest.param(choosing(), Flagged(), id="is to choose"),
    pytest.param(choosing(), Chosen('"wire"', "wire", BEGAN), id="chooses"),
    pytest.param(case(), Flagged(), id="has chosen"),
    pytest.param(at("lines"), Listed(("1",), BEGAN), id="comes to a map"),
    pytest.param(at("checks"), Arrived(), id="comes to branches"),
    pytest.param(FORKED, Joined(None, BEGAN), id="the branches have ended"),
    pytest.param(FORKED, Joined(DECLINED, BEGAN), id="a branch has failed"),
    pytest.param(MAPPED, Joined(None, BEGAN), id="the items have ended"),
    pytest.param(at("fulfil"), ChildRequested(STARTED, BEGAN), id="is to start a child"),
    pytest.param(iteration(1), Flagged(), id="is between iterations"),
]


@pytest.mark.parametrize(("token", "event"), NOT_EXECUTED)
def test_what_waits_or_has_not_begun_ends_at_once_and_nothing_is_recorded(
    token: Token, event: Event
) -> None:
    token = replace(token, flags=Flags.CANCEL)
    assert decide(EVERYTHING, token, Happened(event, RESERVED), NOW) == Decision(
        token, End(), (), RunChange(Status.CANCELLED)
    )


@pytest.mark.parametrize(("token", "event"), NOT_EXECUTED)
def test_with_compensate_what_waits_or_has_not_begun_turns_back_at_once(
    token: Token, event: Event
) -> None:
    token = replace(token, flags=WITH_UNDO)
    assert decide(EVERYTHING, token, Happened(event, RESERVED), NOW) == Decision(
        token,
        Move(at("reserve#compensate", rollback=Status.CANCELLED), undo_place("reserve")),
        (),
        RunChange(Status.COMPENSATING),
    )


def test_a_signal_that_meets_a_cancel_is_not_consumed() -> None:
    token = replace(AWAITING, flags=Flags.CANCEL)
    assert decide(EVERYTHING, token, Signalled(8, "1", BEGAN), NOW).consumes is None


@pytest.mark.parametrize("flags", FLAGS)
def test_a_child_that_is_ready_when_a_cancel_comes_is_not_waited_for(flags: Flags) -> None:
    decision = decide(EVERYTHING, at("fulfil", flags=flags), ChildRequested(STARTED, BEGAN), NOW)
    assert (decision.then, decision.starts) == (End(), None)


@pytest.mark.parametrize("flags", FLAGS)
def test_a_unit_that_suspends_under_a_cancel_is_recorded_cancelled(flags: Flags) -> None:
    decision = decide(EVERYTHING, at("book", flags=flags), Suspended("1", BEGAN), NOW)
    assert [(r.unit, r.outcome, r.undoable) for r in decision.records] == [
        ("book", Outcome.CANCELLED, False)
    ]
    assert decision.then == End()
    assert not decision.keeps


def child_ended(status: Status) -> Happened:
    return Happened(ChildEnded(CHILD, status, CHILD_FAILED, BEGAN), RESERVED)


def test_with_compensate_a_child_that_completed_counts_and_is_undone_first() -> None:
    token = replace(WITH_CHILD, flags=WITH_UNDO)
    decision = decide(EVERYTHING, token, child_ended(Status.COMPLETED), NOW)
    assert [(r.unit, r.outcome, r.child) for r in decision.records] == [
        ("fulfil", Outcome.COMPLETED, CHILD)
    ]
    assert isinstance(decision.then, Move)
    assert decision.then.token == at("fulfil#compensate", rollback=Status.CANCELLED)


def test_without_compensate_a_child_that_completed_is_recorded_cancelled_and_not_undone() -> None:
    token = replace(WITH_CHILD, flags=Flags.CANCEL)
    decision = decide(EVERYTHING, token, child_ended(Status.COMPLETED), NOW)
    assert [(r.outcome, r.child, r.undoable) for r in decision.records] == [
        (Outcome.CANCELLED, CHILD, False)
    ]
    assert (decision.then, decision.run) == (End(), RunChange(Status.CANCELLED))


@pytest.mark.parametrize("flags", FLAGS)
def test_a_child_that_was_cancelled_with_its_parent_is_recorded_so_and_fails_nothing(
    flags: Flags,
) -> None:
    token = replace(WITH_CHILD, flags=flags)
    decision = decide(EVERYTHING, token, child_ended(Status.CANCELLED), NOW)
    assert [(r.unit, r.outcome, r.error, r.child) for r in decision.records] == [
        ("fulfil", Outcome.CANCELLED, None, CHILD)
    ]
    assert decision.run is not None
    assert decision.run.error is None


@pytest.mark.parametrize("flags", FLAGS)
def test_a_child_that_failed_before_the_cancel_came_is_recorded_failed_like_a_step(
    flags: Flags,
) -> None:
    token = replace(WITH_CHILD, flags=flags)
    decision = decide(EVERYTHING, token, child_ended(Status.FAILED), NOW)
    assert [(r.outcome, r.error) for r in decision.records] == [(Outcome.FAILED, CHILD_FAILED)]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("event", [failed(), crashed(), failed(delay=5.0, counts=False)])
def test_a_branch_that_fails_under_a_cancel_is_recorded_and_leaves_without_another_try(
    event: Event, flags: Flags
) -> None:
    decision = decide(EVERYTHING, branch(flags=flags), event, NOW)
    assert isinstance(decision.then, Leave)
    assert not decision.then.stops
    assert decision.run is None
    assert [(r.unit, r.outcome) for r in decision.records] == [("checks#fraud", Outcome.FAILED)]


@pytest.mark.parametrize(
    ("flags", "outcome", "undoable"),
    [(Flags.CANCEL, Outcome.CANCELLED, False), (WITH_UNDO, Outcome.COMPLETED, True)],
)
def test_a_branch_that_succeeds_under_a_cancel_counts_only_with_compensate(
    flags: Flags, outcome: Outcome, undoable: bool
) -> None:
    decision = decide(EVERYTHING, item(3, flags=flags), Succeeded("1", BEGAN), NOW)
    assert decision.then == Leave()
    assert [(r.unit, r.outcome, r.undoable) for r in decision.records] == [
        ("lines#3", outcome, undoable)
    ]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    "token",
    [branch(), item(2), branch(wait=ForSignal("checks#fraud"), snapshot="1")],
    ids=["branch", "item", "suspended"],
)
def test_a_branch_that_was_not_executed_leaves_under_a_cancel_without_a_record(
    token: Token, flags: Flags
) -> None:
    decision = decide(EVERYTHING, replace(token, flags=flags), Flagged(), NOW)
    assert (decision.then, decision.records, decision.run) == (Leave(), (), None)


def test_a_branch_that_waits_for_its_child_leaves_when_that_has_ended() -> None:
    token = branch("stock", 1, wait=ForChild(CHILD), flags=WITH_UNDO)
    decision = decide(EVERYTHING, token, child_ended(Status.CANCELLED), NOW)
    assert decision.then == Leave()
    assert [(r.unit, r.outcome) for r in decision.records] == [("checks#stock", Outcome.CANCELLED)]


@pytest.mark.parametrize("node", [CHECKS, LINES], ids=["parallel", "map"])
def test_with_compensate_a_parent_undoes_its_completed_branches_once_all_have_ended(
    node: Node,
) -> None:
    parent = replace(FORKED if node is CHECKS else MAPPED, flags=WITH_UNDO)
    undo = (
        Undo("checks#fraud", "checks", "fraud", 0)
        if node is CHECKS
        else Undo("lines#3", "lines", None, 3)
    )
    decision = decide(around(node), parent, Happened(Joined(DECLINED, BEGAN), undo), NOW)
    assert isinstance(decision.then, Move)
    assert decision.then.token.unit == f"{undo.unit}#compensate"
    assert decision.then.token.rollback is Status.CANCELLED
    assert decision.then.token.flags is Flags.NONE
    assert decision.records == ()


@pytest.mark.parametrize("flags", FLAGS)
def test_an_iteration_that_ends_under_a_cancel_is_the_last_whatever_until_says(
    flags: Flags,
) -> None:
    event = Succeeded("1", BEGAN, Iteration(next_input="2"))
    decision = decide(EVERYTHING, iteration(0, flags=flags), event, NOW)
    assert [r.unit for r in decision.records] == ["poll#0"]
    assert decision.run is not None
    if flags is WITH_UNDO:
        assert isinstance(decision.then, Move)
        assert decision.then.token.unit == "poll#0#compensate"
    else:
        assert decision.then == End()
