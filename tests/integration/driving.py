"""The real engine on the real database, with the broker taken out.

A `World` is one database. Workers in it are `Durable` objects, each with connections and a liveness
of its own. The test is the broker: it takes hints out of the outbox and delivers them to whichever
worker it likes, late, twice, or never.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery
from psycopg.rows import dict_row

from celery_durable import Durable, RetryPolicy
from celery_durable.core.claim import Claim
from celery_durable.errors import ErrorRecord
from celery_durable.run import Run
from celery_durable.store import tokens
from celery_durable.store.connection import PsycopgConnection
from celery_durable.testing import messages
from tests import waiting
from tests.addresses import conninfo
from tests.timekeeping import Timekeeper
from tests.waiting import wait_until

T = TypeVar("T")

ONCE = RetryPolicy(max_attempts=1)

PATIENCE = waiting.PATIENCE
"""Seconds after which a thread that waits for another is taken for stuck."""

LONG = 3600.0
"""Seconds after which every hint is taken for lost."""

LOCKED_HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
"""What narrows `pg_locks`, which shows the locks of all databases of the server."""

TABLES = ("run", "token", "item", "journal", "outbox", "inbox", "worker", "definition")

EMPTY = """
DO $$
DECLARE one record;
BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR one IN SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE pronamespace = 'public'::regnamespace AND proname NOT LIKE 'durable!_%' ESCAPE '!'
    LOOP EXECUTE format('DROP FUNCTION %s CASCADE', one.name); END LOOP;
    FOR one IN SELECT c.oid::regclass AS name, relname, relkind FROM pg_class c
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')
            AND relname <> 'durable_alembic_version'
    LOOP
        IF one.relname NOT LIKE 'durable!_%' ESCAPE '!' THEN
            EXECUTE format(
                'DROP %s IF EXISTS %s CASCADE',
                CASE one.relkind WHEN 'r' THEN 'TABLE' ELSE 'SEQUENCE' END,
                one.name
            );
        ELSIF one.relkind = 'r' THEN
            EXECUTE format('DELETE FROM %s', one.name);
        END IF;
    END LOOP;
END $$
"""
"""Whatever a test has left: connections, triggers' functions, tables of its own, our rows."""

Define = Callable[[Durable], object]
"""Writes workflows into a Durable; given to two workers, both know the same."""

Row = dict[str, Any]


def make_durable(url: str, define: Define | None = None, **settings: Any) -> Durable:
    """A Durable on an app of its own; `settings` without their prefix."""
    app = Celery("t", broker="memory://", set_as_current=False)
    conf = {f"durable_{name}": value for name, value in settings.items()}
    app.conf.update({"durable_database_url": url, **conf})
    durable = Durable(app)
    if define is not None:
        define(durable)
    return durable


class World:
    """One database, the workers on it, and the broker's part, played by the test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._workers: list[Durable] = []
        self._connection = self.connect()

    def connect(self) -> psycopg.Connection[Row]:
        """A connection of the test's own, each statement its own transaction."""
        return psycopg.connect(conninfo(self.url), autocommit=True, row_factory=dict_row)

    def worker(self, define: Define | None = None, **settings: Any) -> Durable:
        """A worker, or a client: one process of a user's."""
        durable = make_durable(self.url, define, **settings)
        self._workers.append(durable)
        return durable

    def close(self) -> None:
        """End every worker in good order, and leave the database as it was."""
        self.end_workers()
        self.rows(EMPTY)
        self._connection.close()

    def end_workers(self) -> None:
        """End every worker in good order."""
        while self._workers:
            end(self._workers.pop())

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        """What a statement of the test returns."""
        cursor = self._connection.execute(query.encode(), parameters or None)
        return [] if cursor.description is None else cursor.fetchall()

    def one(self, query: str, *parameters: Any) -> Any:
        """The one value that a statement of the test returns."""
        (row,) = self.rows(query, *parameters)
        (value,) = row.values()
        return value

    def counts(self, *but: str) -> dict[str, int]:
        """How many rows each of our tables has, `but` some."""
        return {
            table: self.one(f"SELECT count(*) FROM durable_{table}")
            for table in TABLES
            if table not in but
        }

    def token(self, run: Run) -> Row:
        """The row of the first token of an unfinished run."""
        found = self._tokens(run)
        assert found, "the run has ended"
        return found[0]

    def token_id(self, run: Run) -> UUID:
        """The id of that token."""
        found: UUID = self.token(run)["id"]
        return found

    def has_ended(self, run: Run) -> bool:
        """True if no token of the run is left."""
        return not self._tokens(run)

    def _tokens(self, run: Run) -> list[Row]:
        return self.rows("SELECT * FROM durable_token WHERE run_id = %s", run.id)

    def units(self, run: Run) -> list[str]:
        """The journal: each unit that ended, in order, and how."""
        query = "SELECT unit, outcome FROM durable_journal WHERE run_id = %s ORDER BY seq"
        return [f"{row['unit']} {row['outcome']}" for row in self.rows(query, run.id)]

    def status(self, run: Run) -> str:
        """The status as the table has it."""
        found: str = self.one("SELECT status FROM durable_run WHERE id = %s", run.id)
        return found

    def hints(self, run: Run | None = None) -> int:
        """How many messages the outbox holds, due or not."""
        query = "SELECT count(*) FROM durable_outbox WHERE %s::uuid IS NULL OR run_id = %s"
        run_id = run.id if run else None
        return int(self.one(query, run_id, run_id))

    def publish(self) -> list[UUID]:
        """Take the hints that are due out of the outbox, as a relay does; their tokens."""
        return [*messages.take_hints(PsycopgConnection(self._connection, "public"))]

    def sent(self) -> list[Row]:
        """The ordinary tasks in the outbox, in order."""
        return self.rows("SELECT * FROM durable_outbox WHERE token_id IS NULL ORDER BY id")

    def drain(self, *workers: Durable) -> int:
        """Deliver what is due, to each of the workers in turn, until nothing is; how many."""
        delivered = 0
        while hints := self.publish():
            for token_id in hints:
                workers[delivered % len(workers)].engine.advance(token_id)
                delivered += 1
        return delivered

    def lose_hints(self) -> None:
        """The broker loses everything it has, and the outbox is empty."""
        self.rows("DELETE FROM durable_outbox")

    def let_time_pass(self, seconds: float) -> None:
        """Everything was hinted, and everything is due, `seconds` earlier."""
        by = f"interval '{seconds} seconds'"
        self.rows(
            f"UPDATE durable_token SET hinted_at = hinted_at - {by}, wake_at = wake_at - {by}"
        )
        self.rows(f"UPDATE durable_outbox SET available_at = available_at - {by}")

    def let_looks_come(self, seconds: float) -> None:
        """Every token that waits began to, and is looked at, `seconds` earlier."""
        by = f"interval '{seconds} seconds'"
        self.rows(f"UPDATE durable_token SET look_at = look_at - {by}, since = since - {by}")

    def let_recovery_look(self) -> None:
        """It is time for the next look of recovery."""
        self.rows("UPDATE durable_recovery SET next_at = clock_timestamp()")

    def set_clock_back(self, seconds: float) -> None:
        """Every time that was written is so much later than the clock says now."""
        by = f"interval '{seconds} seconds'"
        columns = {
            "token": ("wake_at", "hinted_at", "waiting_since", "deadline_at"),
            "outbox": ("available_at",),
            "recovery": ("next_at",),
        }
        for table, names in columns.items():
            moved = ", ".join(f"{name} = {name} + {by}" for name in names)
            self.rows(f"UPDATE durable_{table} SET {moved}")

    def expire(self, durable: Durable) -> None:
        """The worker has not renewed for too long, however short that is."""
        self.rows("UPDATE durable_worker SET ttl = 0 WHERE id = %s", worker_id(durable))

    def lock_holder(self, durable: Durable) -> int | None:
        """The server process that holds the worker's lock."""
        query = (
            "SELECT l.pid FROM pg_locks l JOIN durable_worker w ON w.lock_number = objid"
            " WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND w.id = %s"
            f" AND {LOCKED_HERE}"
        )
        found = self.rows(query, worker_id(durable))
        return int(found[0]["pid"]) if found else None

    def trigger(self, event: str, body: str, when: str = "true") -> None:
        """Have Postgres run PL/pgSQL on each row of an event, as `BEFORE INSERT ON durable_run`."""
        result = "NEW" if event.startswith("BEFORE") else "NULL"
        self.rows(
            "CREATE FUNCTION of_the_test() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {body} RETURN {result}; END $$"
        )
        self.rows(
            f"CREATE TRIGGER of_the_test {event}"
            f" FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION of_the_test()"
        )

    def drop_trigger(self, table: str) -> None:
        self.rows(f"DROP TRIGGER of_the_test ON {table}")

    def waiting_for_locks(self) -> int:
        """How many sessions wait for a lock."""
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        return int(self.one(query))

    def take_over(self, define: Define, gate: Gate) -> Run:
        """A run whose worker dies at the gate, and goes on there when another has ended the run."""
        doomed, other = self.worker(define), self.worker(define)
        run = doomed.start("w", {})
        at_work = gate.hold(doomed.engine.advance, self.token_id(run))
        self.kill(doomed)
        assert self.reap(other) == 1
        self.drain(other)
        gate.finish(at_work)
        return run

    def reap(self, durable: Durable) -> int:
        """Free what the dead had claimed, as seen by this worker; how many tokens."""
        with durable.database.autocommit() as connection:
            return Timekeeper().reap_after_grace(connection)

    def kill(self, durable: Durable) -> None:
        """The worker's process is gone: its lock is free, and its row does not know."""
        registration = durable.liveness._lease
        assert registration is not None
        registration.end()
        wait_until(lambda: self.lock_holder(durable) is None, message="the lock to be free")


def worker_id(durable: Durable) -> UUID:
    """The id under which the worker has claimed last; registers one that has not yet."""
    registration = durable.liveness._lease
    return registration.id if registration is not None else durable.liveness.worker_id()


def claimed(worker: Durable, token_id: UUID, fence: UUID | None = None) -> Claim | None:
    """The claim of a worker that follows a hint; None if it cannot have the token."""
    with worker.database.autocommit() as connection:
        return tokens.claim(connection, token_id, worker_id(worker), fence or uuid4())


def end(worker: Durable) -> None:
    """End a worker in good order."""
    worker.liveness.leave()
    worker.database.close()


def error_of(run: Run) -> ErrorRecord:
    """The error that the run has failed with."""
    error = run.status().error
    assert error is not None
    return error


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as a warning, or as something worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def spawn(call: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run `call` in a thread that does not outlive a failed test."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call(*arguments))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result sees it
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def all_at_once(calls: list[Callable[[], T]]) -> list[T]:
    """Run the calls in threads that start together; what each returned."""
    barrier = threading.Barrier(len(calls))

    def wait_and(call: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return call()

    return [future.result(PATIENCE) for future in [spawn(wait_and, call) for call in calls]]


class Gate:
    """A place in a handler where the test decides when it goes on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        self._open.set()

    def hold(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run `call` in a thread; returns when it has come to the gate."""
        held = spawn(call, *arguments)
        self.wait_until_reached()
        return held

    def finish(self, held: Future[T]) -> T:
        """Open the gate, and wait for the end of the call that it held; its result."""
        self.open()
        return held.result(PATIENCE)


def noting(
    log: list[str], name: str, result: Any = None, *, gate: Gate | None = None
) -> Callable[[Any], Any]:
    """A handler that leaves its name in `log`, and then comes to the gate."""

    def handler(ctx: Any) -> Any:
        log.append(name)
        if gate is not None:
            gate()
        return result

    handler.__name__ = name
    return handler


def defining(log: list[str], *names: str, gate: Gate | None = None, **options: Any) -> Define:
    """A workflow `w` of steps that leave their names in `log`, each with these options.

    The first one comes to the gate.
    """

    def define(durable: Durable) -> None:
        workflow = durable.workflow("w")
        for name in names:
            workflow.step(noting(log, name, gate=gate if name == names[0] else None), **options)

    return define
