"""The statements that the library's connections execute, as a test sees, counts or loses them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from celery_durable.database import notify
from celery_durable.errors import DatabaseUnavailable
from celery_durable.store.connection import Parameters, PsycopgConnection, Row, Statement
from celery_durable.testing import messages


@dataclass(frozen=True)
class Executed:
    """A statement that Postgres has executed, and what it returned."""

    connection: PsycopgConnection
    statement: Statement
    parameters: Parameters
    rows: Sequence[Row]

    @property
    def text(self) -> str:
        return self.statement.compiled(self.connection.schema)[0].decode()


def watch(monkeypatch: pytest.MonkeyPatch, see: Callable[[Executed], object]) -> None:
    """Call `see` after each statement of the library; what it raises, the statement raises."""
    execute = PsycopgConnection.rows

    def rows(
        self: PsycopgConnection, statement: Statement, parameters: Parameters | None = None
    ) -> Sequence[Row]:
        found = execute(self, statement, parameters or {})
        see(Executed(self, statement, parameters or {}, found))
        return found

    monkeypatch.setattr(PsycopgConnection, "rows", rows)


def lose_the_answer(
    monkeypatch: pytest.MonkeyPatch, is_meant: Callable[[Executed], bool]
) -> list[Executed]:
    """The next statement that is meant is executed, and its answer never arrives."""
    lost: list[Executed] = []

    def lose(executed: Executed) -> None:
        if is_meant(executed) and not lost:
            lost.append(executed)
            executed.connection.raw.close()
            raise DatabaseUnavailable("cut after the statement")

    watch(monkeypatch, lose)
    return lost


class Meter:
    """Counts the statements that its own thread makes, and the rows they return.

    How often others renew and audit meanwhile is a matter of time, and so is how often ends are
    told. What stands for the relay of a test is not counted.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.statements = 0
        self.returned = 0

    def count(self, executed: Executed) -> None:
        is_ours = threading.get_ident() == self._thread
        if is_ours and executed.statement not in (notify._TELL, messages._TAKE_HINTS):
            self.statements += 1
            self.returned += len(executed.rows)
