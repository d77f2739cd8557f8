"""What a handler is given in branches, items, iterations and suspended steps."""

import pytest

from celery_durable.core.token import Token
from celery_durable.workflow.context import Context
from tests.unit.nodes import branch, case, choosing, item, iteration
from tests.unit.values import FixedJournal, at, claim, undoing


def context(token: Token, journal: FixedJournal | None = None) -> Context:
    return Context(claim(token, {"sku": "A1"}), journal or FixedJournal())


@pytest.mark.parametrize(
    ("token", "branch_name", "number"),
    [
        (at("charge"), None, None),
        (branch("fraud", 1), "fraud", None),
        (item(17), None, 17),
        (choosing(), None, None),
        (case("wire"), "wire", None),
        (iteration(0), None, 0),
        (iteration(3), None, 3),
    ],
)
def test_a_context_says_which_branch_or_which_iteration_it_is(
    token: Token, branch_name: str | None, number: int | None
) -> None:
    given = context(token)
    assert (given.branch, given.iteration) == (branch_name, number)
    assert (given.step, given.unit) == (token.node, token.unit)


def test_the_item_of_a_map_is_the_item_also_where_it_is_null() -> None:
    assert context(item(0, input='{"sku":"B2"}')).item == {"sku": "B2"}
    assert context(item(0, input="null")).item is None


def test_the_item_of_an_iteration_is_its_input_and_else_the_run_s() -> None:
    assert context(iteration(3, input="4")).item == 4
    assert context(iteration(3, input="null")).item is None
    assert context(iteration(0)).item == {"sku": "A1"}


@pytest.mark.parametrize("token", [at("charge"), branch("fraud", 1), case("wire"), choosing()])
def test_elsewhere_there_is_no_item(token: Token) -> None:
    assert context(token).item is None


def test_the_item_is_loaded_once() -> None:
    journal = FixedJournal()
    given = context(item(0, input="[1]"), journal)
    assert given.item is given.item
    assert journal.asked == ["decode"]


def test_a_compensator_is_given_the_item_of_the_unit_it_undoes() -> None:
    journal = FixedJournal({"lines#17": "picked"})
    journal.inputs["lines#17"] = '{"sku":"B2"}'
    given = context(undoing("lines#17", position=17), journal)
    assert (given.item, given.iteration, given.result) == ({"sku": "B2"}, 17, "picked")


def test_a_compensator_of_the_first_iteration_is_given_the_item_that_the_iteration_had() -> None:
    forward = context(iteration(0)).item
    assert context(undoing("poll#0", position=0)).item == forward == {"sku": "A1"}


@pytest.mark.parametrize(
    "token", [undoing("charge"), undoing("checks#fraud", part="fraud", position=0)], ids=str
)
def test_a_compensator_of_what_had_no_item_has_none(token: Token) -> None:
    assert context(token).item is None


def test_a_step_that_has_not_suspended_is_not_resumed() -> None:
    given = context(at("charge"))
    assert (given.is_resumed, given.snapshot, given.resume_data) == (False, None, None)


def test_a_resumed_step_is_given_what_it_kept_and_what_was_sent() -> None:
    given = context(at("charge", snapshot='{"thread":5}', answer='{"ok":true}'))
    assert given.is_resumed
    assert (given.snapshot, given.resume_data) == ({"thread": 5}, {"ok": True})


def test_a_step_that_was_resumed_with_nothing_is_resumed_all_the_same() -> None:
    given = context(at("charge", snapshot="null", answer="null"))
    assert (given.is_resumed, given.snapshot, given.resume_data) == (True, None, None)


def test_what_a_step_kept_is_loaded_only_when_it_is_asked_for() -> None:
    journal = FixedJournal()
    given = context(at("charge", snapshot="[1]", answer="[2]"), journal)
    assert given.is_resumed
    assert journal.asked == []
    assert given.snapshot is given.snapshot
    assert journal.asked == ["decode"]


def test_a_signal_is_the_newest_of_its_name_that_was_consumed() -> None:
    journal = FixedJournal()
    journal.signals["founder-signoff"] = '{"ok":true}'
    given = context(at("charge"), journal)
    assert given.signal("founder-signoff") == {"ok": True}
    assert given.signal("another") is None
