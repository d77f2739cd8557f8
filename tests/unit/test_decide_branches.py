"""`decide` where a token forks, where its branches leave, and where it goes on."""

from dataclasses import replace
from decimal import Decimal

import pytest

from celery_durable.core.decision import (
    Branch,
    Decision,
    End,
    Fork,
    JournalRecord,
    Leave,
    Move,
    Outcome,
    RunChange,
    Undo,
)
from celery_durable.core.event import Arrived, Event, Joined, Listed
from celery_durable.core.nodes import Gathers, Routing, Tolerance
from celery_durable.core.plan import Plan
from celery_durable.core.status import Status
from celery_durable.core.token import ForBranches, Token
from tests.unit.nodes import (
    CHECKS,
    FORKED,
    LINES,
    MAPPED,
    RESERVED,
    around,
    branch,
    item,
    timed,
)
from tests.unit.values import (
    BEGAN,
    DECLINED,
    NOW,
    Happened,
    at,
    attempt,
    crashed,
    decide,
    failed,
    place,
    succeeded,
    undo_place,
)

PARALLEL, MAP = around(CHECKS), around(LINES)


def listed(count: int) -> Listed:
    return Listed(tuple(map(str, range(count))), BEGAN)


def test_a_parallel_node_forks_one_branch_for_each_name_where_it_runs() -> None:
    assert decide(PARALLEL, at("checks"), Arrived(), NOW) == Decision(
        at("checks"),
        Fork(
            at("checks", wait=ForBranches(2, total=2)),
            (
                Branch("checks#fraud", 0, place("fraud"), part="fraud"),
                Branch("checks#stock", 1, Routing(), part="stock"),
            ),
            window=2,
        ),
    )


def test_a_map_forks_one_branch_for_each_item_in_order() -> None:
    decision = decide(MAP, at("lines"), Listed(('"a"', "null"), BEGAN), NOW)
    assert decision == Decision(
        at("lines"),
        Fork(
            at("lines", wait=ForBranches(2, total=2)),
            (
                Branch("lines#0", 0, place("pick"), input='"a"'),
                Branch("lines#1", 1, place("pick"), input="null"),
            ),
            window=2,
        ),
    )


@pytest.mark.parametrize(
    ("concurrency", "items", "window"), [(None, 5, 5), (3, 5, 3), (5, 5, 5), (9, 5, 5), (1, 2, 1)]
)
def test_the_window_is_as_wide_as_asked_for_and_never_wider_than_the_list(
    concurrency: int | None, items: int, window: int
) -> None:
    windowed = around(replace(LINES, max_concurrency=concurrency))
    then = decide(windowed, at("lines"), listed(items), NOW).then
    assert isinstance(then, Fork)
    forked = ForBranches(items, total=items)
    assert (then.window, len(then.branches), then.token.wait) == (window, items, forked)


def test_a_chunk_shares_a_message_and_is_opened_together() -> None:
    chunked = around(replace(LINES, max_concurrency=10, chunk=5))
    fork = decide(chunked, at("lines"), listed(20), NOW).then
    assert isinstance(fork, Fork)
    assert (fork.window, fork.chunk) == (10, 5)
    assert decide(chunked, item(3), succeeded(), NOW).then == Leave(chunk=5)


def test_an_item_with_a_time_limit_does_not_share_its_message() -> None:
    limited = around(replace(LINES, item=timed("pick"), max_concurrency=10, chunk=5))
    fork = decide(limited, at("lines"), listed(20), NOW).then
    assert isinstance(fork, Fork)
    assert (fork.window, fork.chunk) == (10, 1)
    assert decide(limited, item(3), succeeded(), NOW).then == Leave(chunk=1)


def test_an_empty_list_completes_the_map_at_once() -> None:
    assert decide(MAP, at("lines"), listed(0), NOW) == Decision(
        at("lines"),
        Move(at("book"), place("book")),
        (JournalRecord("lines", "lines", Outcome.COMPLETED, 1, BEGAN, gathers=Gathers.ITEMS),),
    )


def test_a_branch_that_completed_is_journaled_and_leaves() -> None:
    token = branch("fraud", attempt=2, failures=(attempt(1),))
    assert decide(PARALLEL, token, succeeded("9"), NOW) == Decision(
        token,
        Leave(),
        (
            JournalRecord(
                "checks#fraud",
                "checks",
                Outcome.COMPLETED,
                2,
                BEGAN,
                result="9",
                failures=(attempt(1),),
                undoable=True,
                part="fraud",
                position=0,
            ),
        ),
    )


def test_an_item_that_can_be_undone_keeps_what_it_was() -> None:
    (record,) = decide(MAP, item(4), succeeded(), NOW).records
    assert (record.unit, record.position, record.input, record.undoable) == (
        "lines#4",
        4,
        "7",
        True,
    )


def test_an_item_that_cannot_be_undone_is_not_kept_twice() -> None:
    (record,) = decide(
        around(replace(LINES, item=timed("pick"))), item(4), succeeded(), NOW
    ).records
    assert (record.input, record.undoable) == (None, False)


def test_a_branch_is_tried_again_in_its_own_place_under_its_own_policy() -> None:
    then = decide(PARALLEL, branch("fraud"), failed(), NOW).then
    again = branch("fraud", attempt=2, failures=(attempt(1),))
    assert then == Move(again, place("fraud"), delay=10.0)


@pytest.mark.parametrize("event", [failed(may_retry=False), crashed()], ids=["gives up", "crashed"])
def test_a_branch_that_failed_for_good_is_journaled_and_leaves_the_run_as_it_is(
    event: Event,
) -> None:
    decision = decide(PARALLEL, branch("fraud"), event, NOW)
    assert decision.then == Leave(failed=True)
    assert decision.run is None
    assert [(r.unit, r.outcome, r.undoable) for r in decision.records] == [
        ("checks#fraud", Outcome.FAILED, False)
    ]


@pytest.mark.parametrize("fail_fast", [True, False])
def test_only_with_fail_fast_a_failed_branch_stops_those_that_have_not_begun(
    fail_fast: bool,
) -> None:
    checks = around(replace(CHECKS, fail_fast=fail_fast))
    lines = around(replace(LINES, fail_fast=fail_fast))
    final = failed(may_retry=False)
    assert decide(checks, branch(), final, NOW).then == Leave(failed=True, stops=fail_fast)
    assert decide(lines, item(), final, NOW).then == Leave(failed=True, stops=fail_fast)


def test_with_fail_fast_a_branch_that_completed_stops_nobody() -> None:
    checks = around(replace(CHECKS, fail_fast=True))
    assert decide(checks, branch(), succeeded(), NOW).then == Leave()


def test_where_errors_are_kept_a_failed_item_is_journaled_and_fails_nothing() -> None:
    keeping = around(replace(LINES, keeps_errors=True))
    decision = decide(keeping, item(2), failed(may_retry=False), NOW)
    assert decision.then == Leave(failed=False)
    assert [(r.unit, r.outcome, r.error) for r in decision.records] == [
        ("lines#2", Outcome.FAILED, DECLINED)
    ]


@pytest.mark.parametrize(
    ("plan", "token", "gathers"),
    [(PARALLEL, FORKED, Gathers.BRANCHES), (MAP, MAPPED, Gathers.ITEMS)],
    ids=["parallel", "map"],
)
def test_when_no_branch_remains_the_node_completes_without_a_result_of_its_own(
    plan: Plan, token: Token, gathers: Gathers
) -> None:
    decision = decide(plan, token, Happened(Joined(None, BEGAN), RESERVED), NOW)
    assert decision.then == Move(at("book"), place("book"))
    (record,) = decision.records
    assert (record.unit, record.outcome, record.result) == (
        decision.token.node,
        Outcome.COMPLETED,
        None,
    )
    assert (record.gathers, record.undoable) == (gathers, False)


def test_when_a_branch_has_failed_the_completed_branches_of_the_node_are_undone_first() -> None:
    sibling = Undo("checks#stock", "checks", "stock", 1)
    fraud = Undo("checks#fraud", "checks", "fraud", 0)
    decision = decide(PARALLEL, FORKED, Happened(Joined(DECLINED, BEGAN), fraud), NOW)
    assert decision == Decision(
        FORKED,
        Move(
            at("checks#fraud#compensate", rollback=Status.FAILED, part="fraud", position=0),
            undo_place("fraud"),
        ),
        (),
        RunChange(Status.COMPENSATING, DECLINED),
    )
    assert isinstance(decision.then, Move)
    following = decide(PARALLEL, decision.then.token, Happened(succeeded().event, sibling), NOW)
    assert following.then == Move(
        at("checks#stock#compensate", rollback=Status.FAILED, part="stock", position=1), Routing()
    )


def test_when_a_branch_has_failed_and_nothing_can_be_undone_the_run_fails_with_its_error() -> None:
    decision = decide(MAP, MAPPED, Joined(DECLINED, BEGAN), NOW)
    assert decision == Decision(MAPPED, End(), (), RunChange(Status.FAILED, DECLINED))


@pytest.mark.parametrize(("failed", "completes"), [(1, True), (2, True), (3, False)])
def test_as_many_items_may_fail_as_are_tolerated(failed: int, completes: bool) -> None:
    some = around(replace(LINES, tolerance=Tolerance(percent=Decimal(20))))
    joined = at("lines", wait=ForBranches(0, failed, 10))
    decision = decide(some, joined, Joined(DECLINED, BEGAN), NOW)
    if completes:
        (record,) = decision.records
        assert (record.outcome, record.gathers) == (Outcome.COMPLETED, Gathers.ITEMS)
        assert isinstance(decision.then, Move)
    else:
        assert decision == Decision(joined, End(), (), RunChange(Status.FAILED, DECLINED))


def test_an_item_that_fails_is_counted_where_some_are_tolerated() -> None:
    some = around(replace(LINES, tolerance=Tolerance(5)))
    assert decide(some, item(), failed(may_retry=False), NOW).then == Leave(failed=True)


def test_an_item_is_undone_where_its_compensator_runs_and_knows_its_place() -> None:
    undo = Undo("lines#17", "lines", None, 17)
    then = decide(MAP, MAPPED, Happened(Joined(DECLINED, BEGAN), undo), NOW).then
    token = at("lines#17#compensate", rollback=Status.FAILED, position=17)
    assert then == Move(token, undo_place("pick"))


def test_a_branch_called_compensate_is_undone_like_any_other() -> None:
    named = around(replace(CHECKS, branches=(replace(CHECKS.branches[0], name="compensate"),)))
    (record,) = decide(named, branch("compensate"), succeeded(), NOW).records
    assert (record.unit, record.undoable) == ("checks#compensate", True)
    undo = Undo(record.unit, record.node, record.part, record.position)
    then = decide(named, FORKED, Happened(Joined(DECLINED, BEGAN), undo), NOW).then
    assert isinstance(then, Move)
    assert then.token.unit == "checks#compensate#compensate"
    assert then.routing == undo_place("fraud")


def test_what_fails_in_a_map_function_fails_the_node_at_the_first_try() -> None:
    decision = decide(MAP, at("lines"), failed(), NOW)
    assert decision.run == RunChange(Status.FAILED, DECLINED)
    assert [(r.unit, r.outcome) for r in decision.records] == [("lines", Outcome.FAILED)]
