"""Keeps a worker's lease: its row in `durable_worker`, and its advisory lock.

A worker registers when it first follows a hint. From then on one thread renews its row. Another
holds the lock, takes a new one when its connection is lost, and audits: it releases claims that are
this worker's in Postgres and that this process is not working on.
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

from celery_durable.background.counting import write_counts
from celery_durable.database.connections import BRIEFLY, Database
from celery_durable.errors import DatabaseUnavailable
from celery_durable.process.outage import Outage
from celery_durable.process.sockets import readable
from celery_durable.store import reaping, workers
from celery_durable.store.connection import PsycopgConnection
from celery_durable.store.sqlstates import Hindered
from celery_durable.store.workers import WorkerFacts

logger = logging.getLogger(__name__)

RENEWALS_PER_TTL = 3

CALM_AUDITS, AUDIT_EVERY_WHEN_CALM = 2, 6
"""After so many audits since the process has last followed a message, it audits only every so many
times: a claim that takes effect later was on its way for long, and is rare.
"""

RETAKE_FIRST, RETAKE_MAXIMUM = 0.05, 0.25
"""Seconds between attempts to take a new lock, or to renew while Postgres is away; doubling. A
worker without its lock renews as often: it stays alive by renewing within each `recovery.GRACE`.
"""

LEFT_TO_AUDIT_AT_MOST = 1000
"""The most claims that the next audit releases at once; older ones it finds by itself."""

LOCK_TRIES = 100
"""Numbers tried for a worker's lock; the first is free unless the sequence was reset."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker writes about itself when it registers.

    `node_id` is shared by the processes of one Celery worker, which drain together. `knows` returns
    the positions in workflows at which it can execute tokens. `slots` is how many messages one
    process of it executes at once.
    """

    hostname: str
    pool: str
    queues: tuple[str, ...]
    node_id: UUID
    knows: Callable[[], Mapping[str, Sequence[str]]] = dict
    slots: int = 1


@contextmanager
def closing_on_error(raw: psycopg.Connection[Any] | None) -> Iterator[None]:
    """Close the connection on an error: left open, it would keep its lock."""
    try:
        yield
    except BaseException:
        if raw is not None:
            raw.close()
        raise


class Ended(Exception):
    """This worker has been declared dead, and needs a new id."""


class Liveness:
    """The tokens that this process works on, and its lease. A forked child takes its own lease."""

    def __init__(
        self, database: Database, ttl: float, surroundings: Callable[[], Surroundings]
    ) -> None:
        self._database = database
        self._ttl = ttl
        self._surroundings = surroundings
        self._lock = threading.Lock()
        self._tokens: Counter[UUID] = Counter()
        self._turns = 0
        self._lease: WorkerLease | None = None
        self._pid = os.getpid()

    @contextmanager
    def working_on(self, token_ids: Sequence[UUID]) -> Iterator[None]:
        """Keep the audit from releasing the tokens' claims; from before the claim to after it."""
        with self._lock:
            self._turns += 1
            self._tokens.update(token_ids)
        try:
            yield
        finally:
            with self._lock:
                self._turns += 1
                self._tokens.subtract(token_ids)
                for token_id in token_ids:
                    if not self._tokens[token_id]:
                        del self._tokens[token_id]

    def worker_id(self) -> UUID:
        """The id to claim with; registers this process where it has no lease."""
        with self._lock:
            if self._pid != os.getpid():
                self._lease, self._pid = None, os.getpid()
            if self._lease is None or not self._lease.is_live:
                self._lease = WorkerLease(
                    self._database,
                    self._ttl,
                    self._surroundings(),
                    self._is_working_on,
                    lambda: self._turns,
                )
            return self._lease.id

    def renounce(self, worker_id: UUID) -> None:
        """End the lease of a worker that was declared dead: the next claim takes a new id."""
        lease = self._lease
        if lease is not None and lease.id == worker_id:
            lease.end()

    def leave_to_audit(self, token_id: UUID) -> None:
        """Have the audit release a claim of the token, if it is ours, once Postgres answers."""
        lease = self._lease
        if lease is not None:
            lease.left_to_audit.append(token_id)

    def leave(self) -> None:
        """End the worker in good order."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None and self._pid == os.getpid():
            lease.leave()

    def _is_working_on(self, token_id: UUID) -> bool:
        with self._lock:
            return token_id in self._tokens


class WorkerLease:
    """One row in `durable_worker`, kept alive by two threads until it ends or is declared dead.

    One thread renews and does nothing else: staying alive depends on that statement only. The other
    does what may wait for a lock or a connection: it holds the worker's lock, audits, and writes
    what the process has counted.
    """

    def __init__(
        self,
        database: Database,
        ttl: float,
        surroundings: Surroundings,
        is_working_on: Callable[[UUID], bool],
        turns: Callable[[], int],
    ) -> None:
        self.id = uuid4()
        self.is_live = True
        self._database = database
        self._ttl = ttl
        self._pause = ttl / RENEWALS_PER_TTL
        self._is_working_on = is_working_on
        self._turns = turns
        self._turns_seen, self._calm = -1, 0
        self.left_to_audit: deque[UUID] = deque(maxlen=LEFT_TO_AUDIT_AT_MOST)
        self._suspects: frozenset[UUID] = frozenset()
        self._raw, number = self._take_new_lock()
        self._needs_lock = number is not None
        self._is_lockless = False
        with closing_on_error(self._raw):
            self._register(surroundings, number)
        # SimpleQueue: a put() may be interrupted by another, in the handler of a signal.
        self._renew_now: SimpleQueue[None] = SimpleQueue()
        self._wakeup, self._wakeup_socket = socket.socketpair()
        for work, name in (
            (self._renew_until_ended, "durable-liveness"),
            (self._hold_lock, "durable-lock"),
        ):
            threading.Thread(target=work, name=name, daemon=True).start()

    def _take_new_lock(self) -> tuple[psycopg.Connection[Any] | None, int | None]:
        """Take a new lock on a new connection; none behind a pooler, which shares sessions."""
        raw = self._database.dedicated()
        connection = PsycopgConnection(raw, self._database.schema)
        with closing_on_error(raw):
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
            slots=surroundings.slots,
        )
        with self._database.autocommit() as connection:
            workers.register(connection, facts, self._ttl)
        logger.info("Worker %s is registered (pid %d)", self.id, facts.pid)

    def end(self) -> None:
        """Claim nothing more with this id, and end both threads."""
        self.is_live = False
        self._renew_now.put(None)
        self._wakeup_socket.send(b".")

    def leave(self) -> None:
        """End the worker in good order if Postgres answers; if not, its free lock shows its end."""
        self.end()
        try:
            with self._database.autocommit() as connection:
                workers.end(connection, self.id)
            write_counts(self._database)
        except DatabaseUnavailable as error:
            logger.warning("Worker %s could not say goodbye: %s", self.id, error)

    def _renew_until_ended(self) -> None:
        """The thread that renews. No error ends it: without it the worker could follow no hint."""
        outage, pause = self._new_outage("renewal"), self._pause
        while self.is_live:
            with suppress(Empty):
                self._renew_now.get(timeout=pause)
            pause = self._attempt(self._renew, outage)

    def _hold_lock(self) -> None:
        """The thread that holds the lock and audits."""
        outage, pause = self._new_outage("lock"), self._pause
        while self.is_live:
            self._wait(pause)
            pause = self._attempt(self._retake_and_audit, outage)
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

    def _attempt(self, work: Callable[[], float], outage: Outage) -> float:
        """Do `work` if the worker is live; return the seconds until the next time."""
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

    def _retake_and_audit(self) -> float:
        if self._is_lockless:
            self._retake()
        self._audit_unless_calm()
        write_counts(self._database)
        return self._pause

    def _audit_unless_calm(self) -> None:
        """Audit; most times not where nothing has changed since audits that found nothing.

        `turns` counts when the process begins to work on a token, before it claims, and when it
        ends. So whatever it claims or leaves behind, audits begun later look at.
        """
        turns = self._turns()
        if turns != self._turns_seen or self._suspects or self.left_to_audit:
            self._turns_seen, self._calm = turns, 0
        calm, self._calm = self._calm + 1, 0
        is_skipped = calm > CALM_AUDITS and calm % AUDIT_EVERY_WHEN_CALM != 0
        if is_skipped or self._audit():
            self._calm = calm

    def _wait(self, seconds: float) -> None:
        """Wait until the lease ends, or the connection that holds the lock is lost."""
        lock_fd = None if self._raw is None or self._raw.closed else self._raw.fileno()
        watched = [fd for fd in (self._wakeup.fileno(), lock_fd) if fd is not None]
        ready = readable(watched, seconds)
        if self._needs_lock and (lock_fd is None or lock_fd in ready) and not self._is_lockless:
            self._is_lockless = True
            self._renew_now.put(None)
            assert self._raw is not None
            self._raw.close()  # a lost connection stays readable: the next wait would not wait

    def _retake(self) -> None:
        """Take a new lock, before a reaper finds the lost one free twice.

        It has a new number: the server may keep the lost connection, with its lock, for hours.
        """
        raw, number = self._take_new_lock()
        with closing_on_error(raw):
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

    def _audit(self) -> bool:
        """Release claims of this worker that it is not working on; return False if it cannot look.

        They were seen in two audits in a row, or were left to the audit: the answer to such a claim
        was lost, or the claim itself was still on its way to Postgres. The audit does not wait for
        locked tokens: the worker's own lock may be lost meanwhile.
        """
        with suppress(Hindered), self._database.transaction(BRIEFLY) as connection:
            claimed = reaping.claimed_by(connection, self.id)
            left_to_audit = {self.left_to_audit.popleft() for _ in range(len(self.left_to_audit))}
            unattended = [one for one in claimed if not self._is_working_on(one.token_id)]
            seen_before, self._suspects = (
                self._suspects,
                frozenset(one.fence for one in unattended),
            )
            for one in unattended:
                is_left = one.fence in seen_before or one.token_id in left_to_audit
                if is_left and reaping.reap(connection, one, uuid4()):
                    logger.warning(
                        "Released the claim of %s of run %s: this worker was not executing it",
                        one.unit,
                        one.run_id,
                    )
            return True
        return False
