"""How a failure is recorded: storable, bounded, and about the handler."""

from typing import Any

import pytest

from celery_durable import GiveUp
from celery_durable.workflow.failures import MESSAGE_LIMIT, TRACEBACK_LIMIT
from tests.unit.executing import CardDeclined, failure, outcome, raising
from tests.unit.values import NOW


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_failure_tells_type_message_traceback_and_unit() -> None:
    event = failure(raising(CardDeclined("no money")))
    assert event.error.type == "tests.unit.executing.CardDeclined"
    assert (event.error.message, event.error.unit) == ("no money", "charge")
    assert event.error.traceback.endswith("CardDeclined: no money\n")
    assert event.started_at == NOW


@pytest.mark.parametrize(
    ("error", "name"), [(ValueError("x"), "ValueError"), (GiveUp("x"), "GiveUp")]
)
def test_a_type_everybody_knows_is_named_without_its_module(error: Exception, name: str) -> None:
    assert failure(raising(error)).error.type == name


def test_the_exception_itself_is_kept_for_the_log() -> None:
    error = ValueError("x")
    assert outcome(raising(error)).exception is error


def test_a_message_that_postgres_would_refuse_is_made_storable() -> None:
    error = failure(raising(ValueError("a\0b\ud800c€"))).error
    assert error.message == "a\\0b\\ud800c€"
    for text in (error.message, error.traceback):
        assert "\0" not in text
        text.encode()


def test_a_huge_message_is_kept_from_its_beginning() -> None:
    message = failure(raising(ValueError("begin" + "x" * 1_000_000))).error.message
    assert len(message) == MESSAGE_LIMIT
    assert message.startswith("beginxxx")


def test_a_huge_traceback_is_kept_from_its_end() -> None:
    def charge(_ctx: Any) -> None:
        error: Exception = ValueError("first")
        for number in range(200):
            following = RuntimeError(f"number {number} " + "x" * 1_000)
            following.__cause__ = error
            error = following
        raise error

    traceback = failure(charge).error.traceback
    assert len(traceback) == TRACEBACK_LIMIT
    assert "number 199" in traceback
    assert "first" not in traceback


def test_endless_recursion_is_a_failure_of_bounded_length() -> None:
    def charge(ctx: Any) -> None:
        charge(ctx)

    error = failure(charge).error
    assert error.type == "RecursionError"
    assert len(error.traceback) <= TRACEBACK_LIMIT


def test_an_exception_whose_message_cannot_be_made_is_recorded_all_the_same() -> None:
    error = failure(raising(Unprintable())).error
    assert error.message == "(its message cannot be printed: ZeroDivisionError)"
    assert error.type.endswith("Unprintable")


def frames(traceback: str) -> list[str]:
    """The functions that a traceback names, outermost first."""
    return [line.rpartition(" in ")[2] for line in traceback.splitlines() if ", line " in line]


def inner() -> None:
    raise ValueError("no")


def test_the_traceback_begins_with_the_handlers_own_frames() -> None:
    def charge(_ctx: Any) -> None:
        inner()

    assert frames(failure(charge).error.traceback) == ["charge", "inner"]


def test_the_traceback_of_an_async_handler_begins_with_its_own_frames() -> None:
    async def charge(_ctx: Any) -> None:
        inner()

    assert frames(failure(charge).error.traceback) == ["charge", "inner"]


def test_a_traceback_tells_the_cause() -> None:
    def charge(_ctx: Any) -> None:
        try:
            inner()
        except ValueError as error:
            raise CardDeclined("no money") from error

    traceback = failure(charge).error.traceback
    assert "ValueError: no\n" in traceback
    assert "direct cause" in traceback
