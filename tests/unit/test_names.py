"""What things may be called, and the grammar of units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.names import (
    MAX_LENGTH,
    RETURNS,
    ROLLBACK,
    checked_name,
    choice_of,
    compensated_by,
    compensation_of,
    subunit_of,
)
from celery_durable.errors import InvalidWorkflow

storable = st.characters(exclude_categories=["Cs"], exclude_characters="#\0")
good_names = st.text(storable, min_size=1, max_size=MAX_LENGTH).filter(str.strip)


@given(good_names)
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert checked_name("step", name) is name


@given(good_names)
def test_a_compensation_tells_what_it_undoes(name: str) -> None:
    for unit in (name, subunit_of(name, "compensate"), subunit_of(name, 0)):
        assert compensated_by(compensation_of(unit)) == unit


@given(good_names)
def test_no_name_can_be_mistaken_for_another_unit(name: str) -> None:
    assert name not in (RETURNS, ROLLBACK)
    assert name not in (subunit_of(name, 0), subunit_of("a", name), choice_of(name))
    for other in (name, "compensate", "a"):
        assert compensation_of(other) != name
    assert compensated_by(name) == name


def test_the_unit_of_a_compensation_is_the_one_in_the_documentation() -> None:
    assert compensation_of("charge") == "charge#compensate"
    assert compensation_of(subunit_of("lines", 17)) == "lines#17#compensate"


def test_the_units_of_branches_iterations_and_choices_are_those_in_the_documentation() -> None:
    assert subunit_of("checks", "fraud") == "checks#fraud"
    assert subunit_of("poll", 3) == "poll#3"
    assert choice_of("rail") == "rail#route"


def test_a_branch_called_compensate_is_not_taken_for_the_undo_of_its_unit() -> None:
    branch = subunit_of("checks", "compensate")
    assert compensation_of(branch) != branch


@pytest.mark.parametrize("name", ["", " ", "\t\n", None, 7, b"charge"])
def test_a_name_is_a_string_that_is_not_empty(name: object) -> None:
    with pytest.raises(InvalidWorkflow, match="A step needs a name: a string that is not empty"):
        checked_name("step", name)


@pytest.mark.parametrize("name", ["a#b", "#", "charge#compensate", "a\0", RETURNS, ROLLBACK])
def test_reserved_characters_are_refused(name: str) -> None:
    with pytest.raises(InvalidWorkflow, match="reserved character; leave out '#' and NUL") as told:
        checked_name("workflow", name)
    assert f"The workflow name {name!r}" in str(told.value)


def test_a_name_that_utf_8_cannot_write_is_refused() -> None:
    with pytest.raises(InvalidWorkflow):
        checked_name("step", "charge\ud800")


def test_a_long_name_is_refused_with_its_length_and_the_limit() -> None:
    assert checked_name("step", "x" * MAX_LENGTH)
    with pytest.raises(InvalidWorkflow, match="has 201 characters; 200 is the limit") as told:
        checked_name("step", "x" * (MAX_LENGTH + 1))
    assert len(str(told.value)) < MAX_LENGTH
