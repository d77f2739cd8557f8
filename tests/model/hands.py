"""Actors that stop before each of their transactions, and can be put back to any such place.

A hand is a greenlet that runs the library's own code: a worker's `Engine.advance`, or a call of a
client. It stops at every boundary of a transaction until the explorer lets it go on. Its `Script`
says how it got there: what was called and what the database has answered. From a script another
hand is made that stands at the same place: it is given the old answers without asking the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

from greenlet import GreenletExit, getcurrent, greenlet

from celery_durable.database.connections import Database
from celery_durable.engine.bundle import Bundle
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process.tally import Tally
from celery_durable.store import workers
from celery_durable.store.connection import Connection, Parameters, Row, Statement
from celery_durable.store.workers import WorkerFacts
from tests.model.stage import SCHEMA, Stage

NAMESPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


@dataclass(frozen=True)
class Reply:
    """What came of a statement, or of a COMMIT."""

    rows: Sequence[Row] = ()
    error: Exception | None = None

    def given(self) -> Sequence[Row]:
        if self.error is not None:
            raise self.error
        return self.rows


@dataclass(frozen=True)
class Call:
    """A handler was called, or has returned."""

    run_id: str
    unit: str
    has_returned: bool = False


@dataclass(frozen=True)
class Script:
    """How a hand got to where it stands. `worker`: the id it began with."""

    serial: int
    does: str
    call: Callable[[], object] = field(compare=False)
    tokens: tuple[str, ...] = ()
    worker: UUID | None = None
    replies: tuple[Reply, ...] = ()


class Hand(greenlet):
    """An actor in the middle of what it does."""

    def __init__(self, script: Script, stage: Stage) -> None:
        super().__init__(self._work)
        self.script = script
        self.stage = stage
        self.worker = script.worker
        self.calls: list[Call] = []
        self.bundle: Bundle | None = None
        self.result: object = None
        self.loses_answer = False
        self._given = 0
        self._new: list[Reply] = []
        self._ids = 0
        self._is_gone = False

    def _work(self) -> None:
        self.result = self.script.call()

    def new_id(self) -> UUID:
        """The same ids each time the script is played."""
        self._ids += 1
        return uuid5(NAMESPACE, f"{self.script.serial}.{self._ids}")

    @property
    def _is_live(self) -> bool:
        return self._given == len(self.script.replies)

    def stop(self) -> None:
        """A transaction is about to begin."""
        if self._is_live and not self._is_gone:
            self.parent.switch()
        if self._is_gone:
            raise GreenletExit

    def ask(self, statement: Statement, parameters: Parameters) -> Sequence[Row]:
        """The answer of the database: the old one, or its answer now."""
        return self._reply(lambda: self.stage.rows(statement, parameters))

    def end_transaction(self) -> None:
        """COMMIT, whose answer may get lost."""
        lost = self.loses_answer and self._is_live
        self._reply(_raise_lost if lost else tuple)

    def roll_back(self) -> None:
        """ROLLBACK: the code itself has given the transaction up."""
        if self._is_live:
            self.stage.undo()

    def _reply(self, ask: Callable[[], Sequence[Row]]) -> Sequence[Row]:
        if self._is_live:
            self._new.append(self._now(ask))
            reply = self._new[-1]
        else:
            reply = self.script.replies[self._given]
            self._given += 1
        return reply.given()

    def _now(self, ask: Callable[[], Sequence[Row]]) -> Reply:
        try:
            return Reply(ask())
        except DatabaseUnavailable as error:
            return Reply(error=error)
        except Exception as error:  # noqa: BLE001 - the transaction has failed; the code goes on
            self.stage.undo()
            return Reply(error=error)

    def next(self, *, loses_answer: bool = False) -> Script | None:
        """Let it do its next transaction; where it stands then, None when it has ended."""
        self.switch()
        before = len(self.calls)
        self.loses_answer = loses_answer
        self.switch()
        self.calls = self.calls[before:]
        if self.dead:
            return None
        self._is_gone = True
        self.throw(GreenletExit)
        return replace(self.script, replies=(*self.script.replies, *self._new))


def _raise_lost() -> Sequence[Row]:
    raise DatabaseUnavailable("the answer was lost")


def hand() -> Hand | None:
    """Who is at work; None for the explorer itself."""
    found = getcurrent()
    return found if isinstance(found, Hand) else None


class HandConnection:
    """A connection of an actor: each statement is a transaction, or all are one."""

    schema = SCHEMA

    def __init__(self, stage: Stage, *, together: bool) -> None:
        self._stage = stage
        self._together = together

    def rows(self, statement: Statement, parameters: Parameters = {}) -> Sequence[Row]:  # noqa: B006
        at_work = hand()
        if at_work is None:
            return self._stage.rows(statement, parameters)
        if self._together:
            return at_work.ask(statement, parameters)
        at_work.stop()
        rows = at_work.ask(statement, parameters)
        at_work.end_transaction()
        return rows


class NoTally(Tally):
    """Counts nothing: counts would say how often a script was played, and are written or not."""

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Count nothing."""


class ModelDatabase(Database):
    """The database as the engine sees it, on the one session of the stage."""

    def __init__(self, url: str, stage: Stage) -> None:
        super().__init__(url, schema=SCHEMA)
        self.tally = NoTally()
        self._stage = stage

    @contextmanager
    def autocommit(self) -> Iterator[Any]:
        yield HandConnection(self._stage, together=False)

    @contextmanager
    def transaction(self, bounds: Statement | None = None) -> Iterator[Any]:  # noqa: ARG002 - nobody waits here
        at_work = hand()
        if at_work is not None:
            at_work.stop()
        try:
            yield HandConnection(self._stage, together=True)
        except Exception:
            if at_work is not None:
                at_work.roll_back()
            raise
        if at_work is not None:
            at_work.end_transaction()


class ModelLiveness:
    """The registration of the worker whose hand is at work."""

    def __init__(self, database: ModelDatabase, pool: str) -> None:
        self._database = database
        self._pool = pool

    def working_on(self, _token_ids: Sequence[UUID]) -> nullcontext[None]:
        return nullcontext()

    def worker_id(self) -> UUID:
        at_work = hand()
        assert at_work is not None
        if at_work.worker is None:
            new = at_work.new_id()
            with self._database.autocommit() as connection:
                register(connection, new, self._pool)
            at_work.worker = new
        return at_work.worker

    def leave_to_audit(self, _token_id: UUID) -> None:
        """Its claim is left to recovery."""

    def renounce(self, worker_id: UUID) -> None:
        at_work = hand()
        assert at_work is not None
        if at_work.worker == worker_id:
            at_work.worker = None


class ModelGuard:
    """The guard, which acts only where a handler has it act (`guarded`)."""

    @contextmanager
    def watching(self, bundle: Bundle) -> Iterator[None]:
        at_work = hand()
        assert at_work is not None
        at_work.bundle = bundle
        yield
        at_work.bundle = None


def register(connection: Connection, worker: UUID, pool: str) -> None:
    """A worker without a lock, which lives until the explorer lets it expire."""
    facts = WorkerFacts(worker, worker, "model", 1, pool, ("durable",), None)
    workers.register(connection, facts, ttl=1e9)


def new_id() -> UUID:
    """What stands in for uuid4 and uuid7."""
    global _made  # noqa: PLW0603 - ids of the explorer's own doings need only be different
    at_work = hand()
    if at_work is not None:
        return at_work.new_id()
    _made += 1
    return uuid5(NAMESPACE, f"explorer.{_made}")


_made = 0


def noted(ctx: Any, function: Callable[[Any], Any]) -> Any:
    """Call a handler and have it noted who was called, and that it has returned."""
    at_work = hand()
    calls = [] if at_work is None else at_work.calls
    calls.append(Call(str(ctx.run_id), ctx.unit))
    try:
        if at_work is not None and at_work.bundle is not None:
            at_work.bundle.look_after()  # the guard, in the middle of the handler
        return function(ctx)
    finally:
        calls.append(Call(str(ctx.run_id), ctx.unit, has_returned=True))
