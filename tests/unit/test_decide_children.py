"""`decide` where a unit is a run of its own, forward and on the way back."""

from dataclasses import replace

import pytest

from celery_durable.core.decide import decide as decide_core
from celery_durable.core.decision import (
    Decision,
    End,
    JournalRecord,
    Leave,
    Move,
    Outcome,
    Park,
    RollBack,
    RunChange,
    Undo,
)
from celery_durable.core.event import Arrived, ChildEnded, ChildRequested, Iteration
from celery_durable.core.names import ROLLBACK
from celery_durable.core.nodes import ChildNode, Gathers, Node, Routing
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForChild, Token
from tests.unit.nodes import (
    CHECKS,
    CHILD,
    CHILD_FAILED,
    FULFIL,
    POLL,
    RAIL,
    RESERVED,
    STARTED,
    WITH_CHILD,
    around,
    branch,
    case,
    iteration,
)
from tests.unit.values import (
    BEGAN,
    DECLINED,
    NOW,
    Happened,
    at,
    decide,
    failed,
    flagged,
    place,
    plan,
    undo_place,
    undoable,
)

PARENT_PLAN = around(FULFIL)
FULFILLED = Undo("fulfil", "fulfil")
UNDOING = at("fulfil#compensate", rollback=Status.FAILED)
SPAWNED = ChildRequested(STARTED, BEGAN)


def ended(status: Status, undo: Undo | None = None, of: Iteration | None = None) -> Happened:
    return Happened(ChildEnded(CHILD, status, CHILD_FAILED, BEGAN, of), undo)


def test_a_child_is_started_with_the_commit_that_waits_for_it() -> None:
    decision = decide(PARENT_PLAN, at("fulfil"), SPAWNED, NOW)
    assert decision == Decision(
        at("fulfil"), Park(WITH_CHILD, Routing(), timeout=None), starts=STARTED
    )


def test_a_child_that_completed_is_recorded_and_its_result_stays_where_it_is() -> None:
    assert decide(PARENT_PLAN, WITH_CHILD, ended(Status.COMPLETED), NOW) == Decision(
        WITH_CHILD,
        Move(at("book"), place("book")),
        (
            JournalRecord(
                "fulfil",
                "fulfil",
                Outcome.COMPLETED,
                1,
                BEGAN,
                undoable=True,
                child=CHILD,
                gathers=Gathers.CHILD,
            ),
        ),
    )


def test_a_completed_child_cannot_be_undone_unless_its_node_cascades() -> None:
    plain = around(replace(FULFIL, cascade=False))
    (record,) = decide(plain, WITH_CHILD, ended(Status.COMPLETED), NOW).records
    assert not record.undoable
    assert undoable(plain) == ("reserve",)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_child_that_did_not_complete_fails_its_parent_with_its_error(status: Status) -> None:
    decision = decide(PARENT_PLAN, WITH_CHILD, ended(status, RESERVED), NOW)
    assert [(r.unit, r.outcome, r.error, r.undoable) for r in decision.records] == [
        ("fulfil", Outcome.FAILED, CHILD_FAILED, False)
    ]
    assert decision.run == RunChange(Status.COMPENSATING, CHILD_FAILED)
    assert decision.then == Move(
        at("reserve#compensate", rollback=Status.FAILED), undo_place("reserve")
    )


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_child_that_did_not_complete_ends_a_parent_with_nothing_to_undo(status: Status) -> None:
    decision = decide(PARENT_PLAN, WITH_CHILD, ended(status), NOW)
    assert (decision.then, decision.run) == (End(), RunChange(Status.FAILED, CHILD_FAILED))


@pytest.mark.parametrize(
    ("status", "leaves"),
    [
        (Status.COMPLETED, Leave()),
        (Status.FAILED, Leave(failed=True)),
        (Status.CANCELLED, Leave(failed=True)),
    ],
)
def test_a_branch_that_is_a_child_leaves_as_it_ended(status: Status, leaves: Leave) -> None:
    token = branch("stock", 1, wait=ForChild(CHILD))
    decision = decide(around(CHECKS), token, ended(status), NOW)
    assert decision.then == leaves
    assert decision.run is None
    assert [r.unit for r in decision.records] == ["checks#stock"]


def test_a_case_that_is_a_child_completes_its_node() -> None:
    decision = decide(
        around(RAIL), case("card", wait=ForChild(CHILD)), ended(Status.COMPLETED), NOW
    )
    assert decision.then == Move(at("book"), place("book"))
    assert [(r.unit, r.part, r.child) for r in decision.records] == [("rail", "card", CHILD)]


def test_an_iteration_that_is_a_child_is_followed_by_the_next() -> None:
    loop = around(replace(POLL, repeated=ChildNode("ask", "ask")))
    token = iteration(0, wait=ForChild(CHILD))
    decision = decide(loop, token, ended(Status.COMPLETED, of=Iteration(next_input="2")), NOW)
    assert decision.then == Move(iteration(1, input="2"), Routing(), delay=5.0)
    assert [(r.unit, r.gathers) for r in decision.records] == [("poll#0", Gathers.CHILD)]


def test_a_unit_that_could_not_start_its_child_fails_at_the_first_try() -> None:
    decision = decide(PARENT_PLAN, at("fulfil"), failed(), NOW)
    assert decision.run == RunChange(Status.FAILED, DECLINED)


def test_a_completed_child_is_undone_when_its_parent_turns_back() -> None:
    turned = decide(
        PARENT_PLAN, at("book"), Happened(failed(may_retry=False).event, FULFILLED), NOW
    ).then
    assert turned == Move(UNDOING, Routing())
    parked = decide(PARENT_PLAN, UNDOING, SPAWNED, NOW)
    waiting = replace(UNDOING, wait=ForChild(CHILD))
    assert parked == Decision(UNDOING, Park(waiting, Routing(), timeout=None), starts=STARTED)


UNDOING_CHILD = replace(UNDOING, wait=ForChild(CHILD))


def test_a_child_that_was_undone_is_recorded_and_what_was_before_is_undone_next() -> None:
    decision = decide(PARENT_PLAN, UNDOING_CHILD, ended(Status.CANCELLED, RESERVED), NOW)
    assert [(r.unit, r.outcome, r.error) for r in decision.records] == [
        ("fulfil#compensate", Outcome.COMPLETED, None)
    ]
    assert decision.then == Move(
        at("reserve#compensate", rollback=Status.FAILED), undo_place("reserve")
    )
    assert decision.run is None


def test_a_child_that_could_not_be_undone_is_journaled_and_the_others_still_run() -> None:
    token = replace(UNDOING_CHILD, rollback=Status.CANCELLED)
    decision = decide(PARENT_PLAN, token, ended(Status.FAILED, RESERVED), NOW)
    assert [(r.unit, r.outcome, r.error) for r in decision.records] == [
        ("fulfil#compensate", Outcome.FAILED, CHILD_FAILED)
    ]
    assert decision.then == Move(
        at("reserve#compensate", rollback=Status.FAILED), undo_place("reserve")
    )
    assert decision.run == RunChange(Status.COMPENSATING, CHILD_FAILED)


@pytest.mark.parametrize("ends_as", [Status.FAILED, Status.CANCELLED])
def test_the_last_child_that_is_undone_ends_the_run_as_it_was_to_end(ends_as: Status) -> None:
    token = replace(UNDOING_CHILD, rollback=ends_as)
    decision = decide(PARENT_PLAN, token, ended(Status.CANCELLED), NOW)
    assert (decision.then, decision.run) == (End(), RunChange(ends_as))


BEGINS_BACK = at(ROLLBACK, rollback=Status.CANCELLED)


def test_the_token_of_a_child_that_is_to_be_undone_goes_to_what_completed_last() -> None:
    child = plan("a", around(FULFIL).nodes[0])
    decision = decide(child, BEGINS_BACK, Happened(Arrived(), RESERVED), NOW)
    assert decision == Decision(
        BEGINS_BACK,
        Move(at("reserve#compensate", rollback=Status.CANCELLED), undo_place("reserve")),
    )


def test_a_child_of_which_nothing_can_be_undone_ends_cancelled_at_once() -> None:
    decision = decide(plan("a"), BEGINS_BACK, Arrived(), NOW)
    assert decision == Decision(BEGINS_BACK, End(), (), RunChange(Status.CANCELLED))


def test_what_is_to_be_undone_is_looked_up_where_the_way_back_begins() -> None:
    decided = decide_core(PARENT_PLAN, BEGINS_BACK, Arrived(), NOW)
    assert decided == RollBack(BEGINS_BACK, Status.CANCELLED)


def test_a_cancel_of_a_child_that_is_to_be_undone_changes_nothing() -> None:
    token = replace(BEGINS_BACK, flags=Flags.CANCEL)
    assert decide(PARENT_PLAN, token, flagged(), NOW) == Decision(
        token, Move(BEGINS_BACK, Routing())
    )


def test_every_kind_of_body_may_be_a_child() -> None:
    tokens: list[tuple[Node, Token]] = [
        (CHECKS, branch("stock", 1)),
        (RAIL, case("card")),
        (replace(POLL, repeated=ChildNode("ask", "ask")), iteration(2)),
    ]
    for node, token in tokens:
        then = decide(around(node), token, SPAWNED, NOW).then
        assert then == Park(replace(token, wait=ForChild(CHILD)), Routing(), timeout=None)
