"""The life of a worker process as Postgres sees it.

A worker is registered when it first follows a hint. From then on a thread of its own renews its
row. Another holds the worker's advisory lock, takes one again when its connection is lost, and
audits: a claim in Postgres that this process is not working on is given back.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID, uuid4

import psycopg

from celery_durable.database.connections import BRIEFLY, Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process.outage import Outage
from celery_durable.process.sockets import readable
from celery_durable.store import reaping, workers
from celery_durable.store.connection import Hindered, PsycopgConnection
from celery_durable.store.workers import WorkerFacts

logger = logging.getLogger(__name__)

RENEWALS_PER_TTL = 3
RETAKE_FIRST, RETAKE_MAXIMUM = 0.05, 0.25
"""Seconds between tries to take a lock again, or to renew while Postgres is away; doubling. A
worker without its lock renews as often, and lives while it does within each `recovery.GRACE`.
"""

LEFT_TO_AUDIT_AT_MOST = 1000
"""Claims that the next audit gives back at once; older ones it finds by itself."""

LOCK_TRIES = 100
"""Numbers tried for a worker's lock; the next one is free unless the sequence was reset."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker says of itself.

    `node_id` is shared by the processes of one Celery worker, which are told to stop together.
    `knows`, asked when it registers, says at what places of which workflows it can go on.
    """

    hostname: str
    pool: str
    queues: tuple[str, ...]
    node_id: UUID
    knows: Callable[[], Mapping[str, Sequence[str]]] = dict


@contextmanager
def closed_on_error(raw: psycopg.Connection[Any] | None) -> Iterator[None]:
    """A connection that nobody will have is not left open, with its lock."""
    try:
        yield
    except BaseException:
        if raw is not None:
            raw.close()
        raise


class Ended(Exception):
    """This worker has been declared dead; it needs a new id."""


class Liveness:
    """What this process works on, and its registration. Forked children make their own."""

    def __init__(
        self, database: Database, ttl: float, surroundings: Callable[[], Surroundings]
    ) -> None:
        self._database = database
        self._ttl = ttl
        self._surroundings = surroundings
        self._lock = threading.Lock()
        self._tokens: Counter[UUID] = Counter()
        self._lease: WorkerLease | None = None
        self._pid = os.getpid()

    @contextmanager
    def working_on(self, token_id: UUID) -> Iterator[None]:
        """Says so from before the claim until it is given back: the audit leaves it alone."""
        with self._lock:
            self._tokens[token_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._tokens[token_id] -= 1
                if not self._tokens[token_id]:
                    del self._tokens[token_id]

    def worker_id(self) -> UUID:
        """The id to claim with; registers this process if need be."""
        with self._lock:
            if self._pid != os.getpid():
                self._lease, self._pid = None, os.getpid()
            if self._lease is None or not self._lease.is_live:
                self._lease = WorkerLease(
                    self._database, self._ttl, self._surroundings(), self._is_working_on
                )
            return self._lease.id

    def renounce(self, worker_id: UUID) -> None:
        """The worker was found ended: claim with a new id from now on."""
        registration = self._lease
        if registration is not None and registration.id == worker_id:
            registration.end()

    def leave_to_audit(self, token_id: UUID) -> None:
        """A claim of the token that may be ours is given back once Postgres answers again."""
        registration = self._lease
        if registration is not None:
            registration.left_to_audit.append(token_id)

    def leave(self) -> None:
        """End the worker in good order."""
        with self._lock:
            registration, self._lease = self._lease, None
        if registration is not None and self._pid == os.getpid():
            registration.leave()

    def _is_working_on(self, token_id: UUID) -> bool:
        with self._lock:
            return token_id in self._tokens


class WorkerLease:
    """One id in `durable_worker`, kept alive by two threads until it is left or declared dead.

    One renews and does nothing else: staying alive depends on its statement only. The other does
    what may have to wait, for a lock or a connection: it holds the worker's lock, and audits.
    """

    def __init__(
        self,
        database: Database,
        ttl: float,
        surroundings: Surroundings,
        is_working_on: Callable[[UUID], bool],
    ) -> None:
        self.id = uuid4()
        self.is_live = True
        self._database = database
        self._ttl = ttl
        self._pause = ttl / RENEWALS_PER_TTL
        self._is_working_on = is_working_on
        self.left_to_audit: deque[UUID] = deque(maxlen=LEFT_TO_AUDIT_AT_MOST)
        self._suspects: frozenset[UUID] = frozenset()
        self._raw, number = self._take_new_lock()
        self._needs_lock = number is not None
        self._is_lockless = False
        with closed_on_error(self._raw):
            self._register(surroundings, number)
        # A put() may be interrupted by itself, in a signal's handler.
        self._renew_now: SimpleQueue[None] = SimpleQueue()
        self._wakeup, self._wakeup_socket = socket.socketpair()
        for work, name in ((self._keep, "durable-liveness"), (self._hold, "durable-lock")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def _take_new_lock(self) -> tuple[psycopg.Connection[Any] | None, int | None]:
        """A lock of the worker's own; none behind a pooler, where sessions are shared."""
        raw = self._database.dedicated()
        connection = PsycopgConnection(raw, self._database.schema)
        with closed_on_error(raw):
            if not workers.is_direct(connection):
                raw.close()
                logger.warning(
                    "Postgres is behind a transaction pooler: a worker's death is noticed after"
                    " %g s only. Set durable_direct_database_url to a URL past the pooler.",
                    self._ttl,
                )
                return None, None
            for _ in range(LOCK_TRIES):
                number = workers.new_lock_number(connection)
                if workers.take_lock(connection, number):
                    return raw, number
            raise AssertionError(f"{LOCK_TRIES} worker locks in a row were taken")

    def _register(self, surroundings: Surroundings, number: int | None) -> None:
        facts = WorkerFacts(
            id=self.id,
            node_id=surroundings.node_id,
            hostname=surroundings.hostname,
            pid=os.getpid(),
            pool=surroundings.pool,
            queues=surroundings.queues,
            lock_number=number,
            knows=surroundings.knows(),
        )
        with self._database.autocommit() as connection:
            workers.register(connection, facts, self._ttl)
        logger.info("Worker %s is registered (pid %d)", self.id, facts.pid)

    def end(self) -> None:
        """Claim nothing more under this id."""
        self.is_live = False
        self._renew_now.put(None)
        self._wakeup_socket.send(b".")

    def leave(self) -> None:
        """Say goodbye, best effort: a worker that could not is found dead by its lock."""
        self.end()
        try:
            with self._database.autocommit() as connection:
                workers.end(connection, self.id)
        except DatabaseUnavailable as error:
            logger.warning("Worker %s could not say goodbye: %s", self.id, error)

    def _keep(self) -> None:
        """The thread that renews. Whatever happens it goes on, or no hint could be followed."""
        outage, pause = self._new_outage("renewal"), self._pause
        while self.is_live:
            with suppress(Empty):
                self._renew_now.get(timeout=pause)
            pause = self._tried(self._renew, outage)

    def _hold(self) -> None:
        """The thread that holds the lock, and audits."""
        outage, pause = self._new_outage("lock"), self._pause
        while self.is_live:
            self._wait(pause)
            pause = self._tried(self._look_after, outage)
        if self._raw is not None:
            self._raw.close()

    def _new_outage(self, what: str) -> Outage:
        return Outage(
            logger,
            f"The {what} of worker {self.id}",
            first=RETAKE_FIRST,
            maximum=RETAKE_MAXIMUM,
            shared=self._database.outage,
        )

    def _tried(self, work: Callable[[], float], outage: Outage) -> float:
        """Do `work` while the worker lives; returns the seconds until the next time."""
        try:
            pause = work() if self.is_live else 0.0
        except Ended:
            self.end()
            logger.warning("Worker %s was declared dead; it takes a new id", self.id)
            return 0.0
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a background loop
            return outage.goes_on(error, is_expected=isinstance(error, DatabaseUnavailable))
        outage.is_over()
        return pause

    def _renew(self) -> float:
        with self._database.autocommit() as connection:
            if not workers.renew(connection, self.id, self._ttl):
                raise Ended
        return RETAKE_MAXIMUM if self._is_lockless else self._pause

    def _look_after(self) -> float:
        if self._is_lockless:
            self._retake()
        self._audit()
        return self._pause

    def _wait(self, seconds: float) -> None:
        """Wait, not past the bell, nor past the loss of the connection that holds the lock."""
        lock_fd = None if self._raw is None or self._raw.closed else self._raw.fileno()
        watched = [fd for fd in (self._wakeup.fileno(), lock_fd) if fd is not None]
        ready = readable(watched, seconds)
        if self._needs_lock and (lock_fd is None or lock_fd in ready) and not self._is_lockless:
            self._is_lockless = True
            self._renew_now.put(None)
            assert self._raw is not None
            self._raw.close()  # or there would be no waiting: its end is there to be read

    def _retake(self) -> None:
        """Take a lock again, before somebody finds the lost one free twice.

        It has another number: the server may take the lost connection for alive, for hours.
        """
        raw, number = self._take_new_lock()
        with closed_on_error(raw):
            if raw is None:
                with self._database.autocommit() as connection:
                    is_live = workers.lock_is_here(connection, self.id, None)
            else:
                here = PsycopgConnection(raw, self._database.schema)
                is_live = workers.lock_is_here(here, self.id, number)
            if not is_live:
                raise Ended
        self._raw, self._needs_lock, self._is_lockless = raw, raw is not None, False
        logger.info("Worker %s has a lock again", self.id)

    def _audit(self) -> None:
        """Give back what is claimed in our name and not worked on, seen at two looks in a row.

        That is a claim whose answer was lost on the way, or that was still on its way. It waits for
        nobody who has locked the tokens: the worker's own lock may be lost meanwhile.
        """
        with suppress(Hindered), self._database.transaction(BRIEFLY) as connection:
            claimed = reaping.claimed_by(connection, self.id)
            left_to_audit = {self.left_to_audit.popleft() for _ in range(len(self.left_to_audit))}
            idle = [one for one in claimed if not self._is_working_on(one.token_id)]
            before, self._suspects = self._suspects, frozenset(one.fence for one in idle)
            for one in idle:
                is_left = one.fence in before or one.token_id in left_to_audit
                if is_left and reaping.reap(connection, one, uuid4()):
                    logger.warning(
                        "Gave back %s of run %s: claimed, not worked on", one.unit, one.run_id
                    )
