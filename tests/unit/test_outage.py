"""What is said of an outage, and how often something that is away is asked."""

from __future__ import annotations

import logging

import pytest

from celery_durable.database.connections import Database
from celery_durable.engine.retrying import Retrying
from celery_durable.errors import BrokerUnavailable, DatabaseUnavailable
from celery_durable.process.outage import SAME_WITHIN, Outage, Shared
from celery_durable.store.sqlstates import Hindered

NOWHERE = "postgresql+psycopg://127.0.0.1:1/none"
AWAY = DatabaseUnavailable("no route\n\tto host")
HINDERED = Hindered("disk full")

logger = logging.getLogger("celery_durable.test")


def test_threads_that_notice_one_by_one_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    shared = Shared(logger, "Postgres")
    for _ in range(3):
        shared.notice(AWAY)
        shared.notice(AWAY)
        shared.is_over()
        shared.is_over()
    assert caplog.messages == [
        "Postgres does not answer, trying again: no route to host",
        "Postgres answers again after 0.0 s",
    ]


def test_postgres_that_answers_and_cannot_is_not_said_to_be_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = Shared(logger, "Postgres")
    for _ in range(2):
        shared.notice(HINDERED)
        shared.is_over()
    assert caplog.messages == [
        "Postgres answers, but cannot do it now, trying again: disk full",
        "Postgres can do it again after 0.0 s",
    ]


@pytest.mark.parametrize("is_over_first", [False, True])
def test_postgres_that_could_not_and_then_is_away_is_told_as_both(
    caplog: pytest.LogCaptureFixture, is_over_first: bool
) -> None:
    """A lock timeout a moment before must not hide an outage."""
    shared = Shared(logger, "Postgres")
    shared.notice(HINDERED)
    if is_over_first:
        shared.is_over()
    for error in (AWAY, HINDERED, AWAY):
        shared.notice(error)
    shared.is_over()
    told = caplog.messages
    assert [line for line in told if "does not answer" in line] == [
        "Postgres does not answer, trying again: no route to host"
    ]
    assert told[-1].startswith("Postgres answers again")
    assert len(told) == 3 + is_over_first


def test_the_next_outage_is_told_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("celery_durable.process.outage.time.monotonic", lambda: now[0])
    shared = Shared(logger, "Postgres")
    for _ in range(2):
        shared.notice(AWAY)
        shared.is_over()
        now[0] += SAME_WITHIN
    assert len(caplog.messages) == 4


def test_a_duty_leaves_it_to_its_process_to_say_that_postgres_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = Shared(logger, "Postgres")
    for duty in (Outage(logger, "One", shared=shared), Outage(logger, "Two", shared=shared)):
        duty.goes_on(AWAY)
        duty.goes_on(AWAY)
        assert duty.is_on
    assert len(caplog.messages) == 1


def test_a_duty_says_itself_what_else_is_away(caplog: pytest.LogCaptureFixture) -> None:
    duty = Outage(logger, "The relay", shared=Shared(logger, "Postgres"))
    duty.goes_on(BrokerUnavailable((), "refused"))
    duty.is_over()
    assert caplog.messages == [
        "The relay tries again: The broker is not available: refused",
        "The relay goes on",
    ]


def test_what_nobody_expects_is_shown_once_however_often_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    duty = Outage(logger, "The relay")
    for error in (ValueError("a"), ValueError("a"), KeyError("b"), KeyError("b")):
        duty.goes_on(error, is_expected=False)
    duty.is_over()
    assert caplog.messages == [
        "The relay tries again: ValueError: a",
        "The relay tries again: KeyError: 'b'",
        "The relay goes on",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]


def test_postgres_is_asked_less_and_less_often_and_not_for_ever() -> None:
    tries: list[int] = []

    def ask() -> None:
        tries.append(1)
        raise AWAY

    with pytest.raises(DatabaseUnavailable, match="no route"):
        Retrying(Database(NOWHERE), 0.8).until_answered(ask)
    assert 2 <= len(tries) <= 5


def test_what_is_no_outage_is_not_asked_again() -> None:
    tries: list[int] = []

    def ask() -> None:
        tries.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Retrying(Database(NOWHERE), 0.8).until_answered(ask)
    assert tries == [1]
