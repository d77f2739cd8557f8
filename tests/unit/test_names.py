"""What things may be called, and the grammar of units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.names import (
    MAX_LENGTH,
    RETURNS,
    checked_name,
    compensated_by,
    compensation_of,
    node_of,
)
from celery_durable.errors import InvalidWorkflow

storable = st.characters(exclude_categories=["Cs"], exclude_characters="#\0")
good_names = st.text(storable, min_size=1, max_size=MAX_LENGTH).filter(str.strip)


@given(good_names)
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert checked_name("step", name) is name


@given(good_names)
def test_a_unit_tells_what_it_undoes_and_its_node(name: str) -> None:
    undo = compensation_of(name)
    assert compensated_by(undo) == name
    assert node_of(undo) == node_of(name) == name


@given(good_names)
def test_no_name_can_be_mistaken_for_another_unit(name: str) -> None:
    assert name != RETURNS
    for other in (name, "compensate", "a"):
        assert compensation_of(other) != name
    assert compensated_by(name) == name


def test_the_unit_of_a_compensation_is_the_one_in_the_documentation() -> None:
    assert compensation_of("charge") == "charge#compensate"


@pytest.mark.parametrize("name", ["", " ", "\t\n", None, 7, b"charge"])
def test_a_name_is_a_string_that_is_not_empty(name: object) -> None:
    with pytest.raises(InvalidWorkflow, match="A step needs a name: a string that is not empty"):
        checked_name("step", name)


@pytest.mark.parametrize("name", ["a#b", "#", "charge#compensate", "a\0", RETURNS])
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
