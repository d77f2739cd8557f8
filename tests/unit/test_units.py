"""What a plan says of the unit in hand."""

from dataclasses import fields, replace

import pytest

from celery_durable.core import units
from celery_durable.core.decision import JournalRecord, Move, Outcome, Undo
from celery_durable.core.event import Failed, Succeeded
from celery_durable.core.nodes import ChildNode, Node, Routing
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForSignal, Token
from tests.unit.nodes import (
    AWAITING,
    EVERYTHING,
    FORKED,
    POLL,
    SLEEPING,
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
    RETRY,
    UNDO_RETRY,
    at,
    attempt,
    place,
    undo_place,
)

CALLING = [
    pytest.param(at("reserve"), "reserve", id="step"),
    pytest.param(branch("fraud"), "fraud", id="branch"),
    pytest.param(branch("stock", 1), "stock", id="branch that is a child"),
    pytest.param(item(17), "pick", id="item"),
    pytest.param(case("wire"), "wire", id="case"),
    pytest.param(iteration(2), "ask", id="iteration"),
    pytest.param(at("fulfil"), "fulfil", id="child"),
    pytest.param(at("reserve#compensate", rollback=Status.FAILED), "reserve", id="undo of a step"),
    pytest.param(
        at("checks#fraud#compensate", rollback=Status.FAILED, part="fraud"),
        "fraud",
        id="undo of a branch",
    ),
    pytest.param(
        at("lines#17#compensate", rollback=Status.FAILED, position=17), "pick", id="undo of an item"
    ),
    pytest.param(
        at("rail#compensate", rollback=Status.FAILED, part="wire"), "wire", id="undo of a case"
    ),
]

BETWEEN = [
    pytest.param(choosing(), id="a choice"),
    pytest.param(at("lines"), id="a list"),
    pytest.param(at("checks"), id="a fork"),
    pytest.param(FORKED, id="a gate"),
    pytest.param(at("cooldown"), id="a duration"),
    pytest.param(SLEEPING, id="a sleep"),
    pytest.param(AWAITING, id="a signal"),
    pytest.param(at("gone"), id="a node that has left the plan"),
    pytest.param(case("gone"), id="a case that has left the plan"),
]


@pytest.mark.parametrize(("token", "name"), CALLING)
def test_a_unit_executes_or_undoes_the_body_of_its_place(token: Token, name: str) -> None:
    found = units.unit_of(EVERYTHING, token).body
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("token", BETWEEN)
def test_what_is_between_steps_has_no_body_is_tried_once_and_goes_where_messages_go(
    token: Token,
) -> None:
    assert units.unit_of(EVERYTHING, token).body is None
    assert units.unit_of(EVERYTHING, token).retry.max_attempts == 1
    assert units.unit_of(EVERYTHING, token).routing == Routing()


@pytest.mark.parametrize(
    ("token", "name"),
    [(branch("fraud"), "fraud"), (item(), "pick"), (case("wire"), "wire"), (iteration(), "ask")],
)
def test_a_unit_has_the_policy_and_the_place_of_its_step(token: Token, name: str) -> None:
    assert units.unit_of(EVERYTHING, token).retry == RETRY
    assert units.unit_of(EVERYTHING, token).routing == place(name)
    back = replace(token, rollback=Status.FAILED)
    assert units.unit_of(EVERYTHING, back).retry == UNDO_RETRY
    assert units.unit_of(EVERYTHING, back).routing == undo_place(name)


def test_a_child_is_started_and_undone_once_where_messages_go_by_default() -> None:
    for token in (at("fulfil"), at("fulfil#compensate", rollback=Status.FAILED)):
        assert units.unit_of(EVERYTHING, token).retry.max_attempts == 1
        assert units.unit_of(EVERYTHING, token).routing == Routing()


def test_a_token_leaves_everything_behind_that_belonged_to_its_unit() -> None:
    token = branch(
        "fraud",
        rollback=Status.FAILED,
        attempt=2,
        crashes=1,
        flags=Flags.CANCEL,
        failures=(attempt(1),),
        wait=ForSignal("x"),
        input="1",
        snapshot="2",
        answer="3",
    )
    moved = units.moved(token, token.node, token.unit)
    kept = {"id", "run_id", "node", "unit", "rollback", "parent"}
    bare = at(moved.unit)
    for field in fields(Token):
        expected = token if field.name in kept else bare
        assert getattr(moved, field.name) == getattr(expected, field.name), field.name


@pytest.mark.parametrize(
    ("node", "token", "routing"),
    [
        ("reserve", at("reserve"), place("reserve")),
        ("checks", at("checks"), Routing()),
        ("lines", at("lines"), Routing()),
        ("rail", choosing(), Routing()),
        ("poll", iteration(0), place("ask")),
        ("cooldown", at("cooldown"), Routing()),
        ("signoff", at("signoff"), Routing()),
        ("fulfil", at("fulfil"), Routing()),
    ],
)
def test_a_token_comes_to_the_first_unit_of_a_node(
    node: str, token: Token, routing: Routing
) -> None:
    found = EVERYTHING.find(node)
    assert found is not None
    assert units.begin(at("book", attempt=3, input="1"), found) == Move(token, routing)
    assert units.unit_of(EVERYTHING, token).routing == routing


def test_every_node_is_between_steps_until_it_calls_one() -> None:
    called: list[tuple[Node, Token]] = [
        (node, token)
        for node in EVERYTHING.nodes
        for token in (branch("fraud"), item(), case("wire"), iteration())
        if token.node == node.name
    ]
    assert len(called) == 4
    assert not any(node.is_at_own_unit(token) for node, token in called)


def test_a_compensation_is_undone_by_nothing() -> None:
    token = at("reserve#compensate", rollback=Status.FAILED)
    record = units.record(EVERYTHING, token, Succeeded("1", BEGAN), Outcome.COMPLETED)
    assert not record.undoable
    assert record.undo is None


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_only_what_completed_can_be_undone(outcome: Outcome) -> None:
    record = units.record(EVERYTHING, at("reserve"), Failed(DECLINED, BEGAN), outcome)
    assert (record.undoable, record.undo) == (False, None)


def test_a_cancelled_unit_keeps_no_result() -> None:
    record = units.record(EVERYTHING, at("reserve"), Succeeded("5", BEGAN), Outcome.CANCELLED)
    assert record == JournalRecord("reserve", "reserve", Outcome.CANCELLED, 1, BEGAN)


def test_what_was_recorded_says_how_it_is_undone() -> None:
    record = units.record(EVERYTHING, item(17), Succeeded("1", BEGAN), Outcome.COMPLETED)
    assert record.undo == Undo("lines#17", "lines", None, 17)


def test_the_next_iteration_waits_as_long_as_its_loop_says() -> None:
    loop = replace(POLL, every=0.0)
    moved = units.next_iteration(around(loop), iteration(4, snapshot="1"), loop, None)
    assert moved == Move(iteration(5), place("ask"), delay=0.0)


def test_a_child_is_undoable_only_where_it_cascades() -> None:
    assert ChildNode("a", "a", cascade=True).is_undoable
    assert not ChildNode("a", "a").is_undoable
