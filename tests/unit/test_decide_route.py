"""`decide` where a route chooses: the choice is journaled, then the case is taken."""

from dataclasses import replace

from celery_durable.core.decision import (
    Decision,
    JournalRecord,
    Move,
    Outcome,
    RunChange,
    Undo,
)
from celery_durable.core.event import Chosen
from celery_durable.core.nodes import Routing
from celery_durable.core.status import Status
from tests.unit.nodes import RAIL, RESERVED, around, case, choosing
from tests.unit.values import (
    BEGAN,
    DECLINED,
    NOW,
    Happened,
    at,
    attempt,
    decide,
    failed,
    place,
    succeeded,
    undo_place,
)

ROUTE = around(RAIL)


def decided(answer: str) -> JournalRecord:
    return JournalRecord("rail#route", "rail", Outcome.COMPLETED, 1, BEGAN, result=answer)


def test_a_run_comes_to_the_choice_of_a_route() -> None:
    assert decide(ROUTE, at("reserve"), succeeded(), NOW).then == Move(choosing(), Routing())


def test_the_choice_is_journaled_before_its_case_begins_where_that_runs() -> None:
    chosen = Chosen('"wire"', "wire", BEGAN)
    assert decide(ROUTE, choosing(crashes=1), chosen, NOW) == Decision(
        choosing(crashes=1), Move(case("wire"), place("wire")), (decided('"wire"'),)
    )


def test_a_case_that_is_a_child_goes_where_messages_go_by_default() -> None:
    then = decide(ROUTE, choosing(), Chosen('"card"', "card", BEGAN), NOW).then
    assert then == Move(case("card"), Routing())


def test_a_default_of_nothing_completes_the_node_with_null() -> None:
    nothing = around(replace(RAIL, default=None))
    decision = decide(nothing, choosing(), Chosen('"gold"', None, BEGAN), NOW)
    assert decision.then == Move(at("book"), place("book"))
    assert decision.records == (
        decided('"gold"'),
        JournalRecord("rail", "rail", Outcome.COMPLETED, 1, BEGAN, result="null"),
    )


def test_a_case_is_journaled_under_the_name_of_its_node_and_says_which_it_was() -> None:
    decision = decide(ROUTE, case("wire"), succeeded("5"), NOW)
    assert decision.then == Move(at("book"), place("book"))
    (record,) = decision.records
    assert (record.unit, record.node, record.part, record.result) == ("rail", "rail", "wire", "5")
    assert record.undoable


def test_a_case_that_fails_is_tried_again_as_the_same_case() -> None:
    then = decide(ROUTE, case("wire"), failed(), NOW).then
    again = case("wire", attempt=2, failures=(attempt(1),))
    assert then == Move(again, place("wire"), delay=10.0)


def test_a_case_that_fails_for_good_fails_the_node() -> None:
    decision = decide(ROUTE, case("wire"), Happened(failed(may_retry=False).event, RESERVED), NOW)
    assert [(r.unit, r.outcome, r.part) for r in decision.records] == [
        ("rail", Outcome.FAILED, "wire")
    ]
    assert decision.then == Move(
        at("reserve#compensate", rollback=Status.FAILED), undo_place("reserve")
    )


def test_a_case_is_undone_by_its_own_compensator() -> None:
    event = Happened(failed(may_retry=False).event, Undo("rail", "rail", "wire", None))
    then = decide(ROUTE, at("book"), event, NOW).then
    undoing = at("rail#compensate", rollback=Status.FAILED, part="wire")
    assert then == Move(undoing, undo_place("wire"))


def test_a_selector_that_raises_fails_the_run_at_the_first_try() -> None:
    decision = decide(ROUTE, choosing(), failed(), NOW)
    assert [(r.unit, r.outcome) for r in decision.records] == [("rail#route", Outcome.FAILED)]
    assert decision.run == RunChange(Status.FAILED, DECLINED)


def test_the_choice_itself_cannot_be_undone() -> None:
    assert not decided('"wire"').undoable
    (record,) = decide(ROUTE, choosing(), Chosen('"wire"', "wire", BEGAN), NOW).records
    assert not record.undoable
