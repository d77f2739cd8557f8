"""The load: runs are started, told to go on, paused, cancelled now and then, whatever is broken.

A call that Postgres did not answer is made again, with the same key: it may have been heard.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from celery_durable import DatabaseUnavailable, RunRefused
from celery_durable.run import Run
from tests.chaos.app import ANSWERS, VARIANTS
from tests.chaos.field import Field, drawn

T = TypeVar("T")

UNFINISHED_AT_MOST = 400
CANCELLED_OF_100 = 4
STEERED_OF_100 = 15
LONGEST_PAUSE = 1.5
"""Turns in which an operator does something, and seconds."""

TOLD_EVERY = 0.25
"""Seconds between looks for runs that wait for a signal."""

WAITING = """
    SELECT t.run_id, t.awaits FROM durable_token t
    WHERE t.wait = 'signal' AND t.awaits = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Started:
    """A run as it was asked for."""

    run: Run
    workflow: str
    variant: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancel, and whether it is to be undone; `binds`: the run had not come to its end by then.

    None where the caller was not told yet.
    """

    compensate: bool
    binds: bool | None = None


class Load:
    """A thread that makes work until it is told to stop, then sees the signals through."""

    def __init__(self, field: Field, seed: int, rate: float) -> None:
        self.started: dict[UUID, Started] = {}
        self.cancelled: dict[UUID, Cancelled] = {}
        self.unfinished = 0
        self.retried = 0
        self._field = field
        self._rate = rate
        self._chance = drawn(seed, "load")
        self._sent: set[tuple[UUID, str]] = set()
        self.doomed: list[tuple[float, UUID]] = []
        self.paused: list[tuple[float, dict[str, Any]]] = []
        self.steered = 0
        self._no_more = threading.Event()
        self._end = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = threading.Thread(target=self._go, name="load", daemon=True)
        self.error: BaseException | None = None

    def begin(self) -> None:
        self._thread.start()

    def begin_no_more(self) -> None:
        """No further runs; the signals of those that are on their way are still sent."""
        self._no_more.set()

    def close(self) -> None:
        self._end.set()
        self._thread.join(60)
        if self._connection is not None:
            self._connection.close()

    def one_of_each(self) -> list[Started]:
        """A run of every variant."""
        kinds = [(name, number) for name in VARIANTS for number in range(len(VARIANTS[name]))]
        return [self._start(name, number, f"undisturbed-{name}-{number}") for name, number in kinds]

    def see_signals_through(self) -> int:
        """Send each waiting run its signal, twice; returns how many runs have not ended."""
        for run_id, signal in self._asked(WAITING, list(ANSWERS)):
            if (run_id, signal) not in self._sent:
                self._send(run_id, signal)
        ((unfinished,),) = self._asked("SELECT count(*) FROM durable_run WHERE finished_at IS NULL")
        return int(unfinished)

    def _go(self) -> None:
        try:
            while not self._end.is_set():
                self._turn()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the thread sees it
            self.error = error

    def _turn(self) -> None:
        began = time.monotonic()
        self.unfinished = self.see_signals_through()
        self._cancel_the_doomed()
        self._steer()
        while time.monotonic() - began < TOLD_EVERY:
            if self._no_more.is_set() or self.unfinished >= UNFINISHED_AT_MOST:
                self._end.wait(0.02)
                continue
            self._start_one()
            self._end.wait(self._chance.expovariate(self._rate))

    def _start_one(self) -> None:
        workflow = self._chance.choice(list(VARIANTS))
        variant = self._chance.randrange(len(VARIANTS[workflow]))
        started = self._start(workflow, variant, f"run-{len(self.started)}")
        self.unfinished += 1
        if self._chance.randrange(100) < CANCELLED_OF_100:
            self.doomed.append((time.monotonic() + self._chance.uniform(0, 2), started.run.id))

    def _start(self, workflow: str, variant: int, key: str) -> Started:
        told = {"n": key, **VARIANTS[workflow][variant]}
        run = self._persistently(lambda: self._field.durable.start(workflow, told, key=key))
        started = self.started[run.id] = Started(run, workflow, variant)
        if told.get("signal") == "early":
            self._send(run.id, "go")
        return started

    def _send(self, run_id: UUID, signal: str) -> None:
        for _ in range(2):
            self._persistently(
                lambda: self._field.durable.resume(run_id, signal, ANSWERS[signal], key="once")
            )
        self._sent.add((run_id, signal))

    def _cancel_the_doomed(self) -> None:
        now = time.monotonic()
        for due, run_id in [doomed for doomed in self.doomed if doomed[0] <= now]:
            self.doomed.remove((due, run_id))
            self._cancel(run_id, compensate=self._chance.random() < 0.5)

    def _cancel(self, run_id: UUID, *, compensate: bool) -> None:
        self.cancelled[run_id] = Cancelled(compensate)
        self._persistently(lambda: self._field.durable.cancel(run_id, compensate=compensate))
        ((status,),) = self._asked("SELECT status FROM durable_run WHERE id = %s", run_id)
        binds = status not in ("completed", "failed", "compensating")
        self.cancelled[run_id] = Cancelled(compensate, binds)

    def _steer(self) -> None:
        """Unpause what has been paused for long enough; pause something else, or try a unit now."""
        now, durable = time.monotonic(), self._field.durable
        for one in [one for one in self.paused if one[0] <= now or self._no_more.is_set()]:
            self.paused.remove(one)
            self._persistently(lambda what=one[1]: durable.unpause(**what))  # type: ignore[misc]
        if self._no_more.is_set() or self._chance.randrange(100) >= STEERED_OF_100:
            return
        run_id = self._chance.choice([*self.started][-UNFINISHED_AT_MOST:])
        what = self._chance.choice(["run", "workflow", "try now"])
        try:
            if what == "try now":
                self._persistently(lambda: durable.retry_now(run_id))
            else:
                started = self.started[run_id]
                named = {"run_id": run_id} if what == "run" else {"workflow": started.workflow}
                self.paused.append((now + self._chance.uniform(0, LONGEST_PAUSE), named))
                self._persistently(lambda: durable.pause(**named))
        except RunRefused:
            return  # it has ended, or nothing of it waits for a try
        self.steered += 1

    def _asked(self, query: str, *parameters: Any) -> list[Any]:
        def ask() -> list[Any]:
            if self._connection is None or self._connection.closed:
                self._connection = self._field.connect()
            return self._connection.execute(query.encode(), parameters).fetchall()

        return self._persistently(ask)

    def _persistently(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except (DatabaseUnavailable, psycopg.OperationalError):
                self.retried += 1
                if self._end.wait(0.1):
                    raise
