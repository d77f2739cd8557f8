"""`Harness` executes runs in the thread of a test: on real tables, without broker and worker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from celery_durable.arguments import checked_flag, checked_run_id, checked_seconds
from celery_durable.core.keys import OnConflict, ReuseKey
from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.run import Run
from celery_durable.testing import messages
from celery_durable.testing.courier import Courier
from celery_durable.testing.crashes import Check, Crashes
from celery_durable.testing.engine import Death, Executed, Watch
from celery_durable.testing.handles import HandleRuns, RunStands
from celery_durable.testing.messages import SentTask
from celery_durable.testing.places import checked_names
from celery_durable.testing.report import Report
from celery_durable.workflow.builder import Workflow

MOST_YEARS = 1000
"""Most years that may pass: what is stored becomes older by as much."""

WAITS_FOR = 10.0
"""Most seconds for which a thread waits until another has executed all that is due."""


class Harness:
    """Executes the runs of a database, as far as they come without waiting.

    Messages go from the outbox straight into the engine. Times pass only where the test says so;
    but a unit that has failed is tried again at once: the time of its backoff passes, for
    everything. With `skip_backoffs=False` it stands until `advance`. Time limits of steps do not
    strike: nothing interrupts a handler.

    Raises `ConfigurationError` where a worker is alive on the database.
    """

    def __init__(self, durable: Durable, *, skip_backoffs: bool = True) -> None:
        if not isinstance(durable, Durable):
            raise ConfigurationError(f"Harness takes a Durable, not {durable!r:.60}.")
        self.durable = durable
        self.skip_backoffs = checked_flag("skip_backoffs", skip_backoffs)
        self.watch = Watch()
        self._runs = HandleRuns(self)
        self._lock = threading.Lock()
        self._is_inside: ContextVar[bool] = ContextVar("durable_harness", default=False)
        self._courier: Courier | None = None
        self._is_closed = False
        self._advanced = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the database: the row of the test in `durable_worker` ends.

        Nothing is executed by this harness any more.
        """
        self._is_closed = True
        if self._courier is not None:
            self._courier.close()

    def run(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        version: int | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        on_conflict: OnConflict = "existing",
        reuse_key: ReuseKey = "never",
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
    ) -> Run:
        """Start a run, and execute it until it has ended, or waits for something from outside.

        The options are those of `Durable.start`. The handle's `result()` never waits: it executes
        what is due, and raises `RunStands`, with what `why` says, if the run has not ended then.
        """
        with self.at_work():
            self._refuse_to_join()
            run = self.durable.start(
                workflow,
                input,
                key=key,
                version=version,
                delay=delay,
                priority=priority,
                tags=tags,
                on_conflict=on_conflict,
                reuse_key=reuse_key,
                timeout=timeout,
                expires=expires,
            )
            self.drain_new()
        return self._runs.handle(run)

    def handle(self, run: Run | UUID | str) -> Run:
        """Return a handle on a run that other code has started; its `result()` never waits."""
        if isinstance(run, Run):
            return self._runs.handle(run)
        return self._runs.handle(Run(self.durable, checked_run_id(run)))

    def drain(self) -> int:
        """Execute all that is due, of all runs; return how many messages that took.

        To be called when something has come from outside: `run.resume(...)`, a cancel, a start. A
        unit whose handler has ended a test, by Ctrl-C or a failed assertion of pytest's, is
        executed again here, and by nothing else: it would end the next test, too.
        """
        with self.at_work() as courier:
            courier.take_up_left()
            return self.drain_new()

    def drain_new(self) -> int:
        """`drain`, but for units whose handlers have ended a test."""
        with self.at_work() as courier:
            following = courier.follow(by_one=False, skip_backoffs=self.skip_backoffs)
            return sum(1 for _ in following)

    def step_by_step(self, workflow: Workflow | str, input: object = None) -> Iterator[Executed]:
        """Start a run, and yield what becomes of each unit, before the next one begins.

        A unit that waits, and one that is tried again, is yielded too. `str()` of what is yielded
        is "order: charge completed".
        """
        with self.at_work():
            self._refuse_to_join()
            self.durable.start(workflow, input)
        return self._stepping()

    def advance(self, by: float | timedelta) -> None:
        """Let time pass, seconds or a timedelta, and execute what comes due on the way, in order.

        That is so for sleeps, backoffs, pauses of loops, time-outs of waits, delayed starts, the
        `timeout` and `expires` of runs, and for how old `prune` finds them. All that is stored
        becomes older; handlers that ask their own clock see nothing of it.
        """
        seconds = checked_seconds("by", by)
        if seconds is None:
            raise ConfigurationError("advance takes seconds or a timedelta, not None.")
        self._refuse_too_far(seconds)
        with self.at_work() as courier:
            self.drain_new()
            for _ in courier.pass_time(seconds):
                pass
            self.drain_new()

    def _refuse_too_far(self, seconds: float) -> None:
        """Raise `ConfigurationError` for a time before which Postgres or Python has no date."""
        if self._advanced + seconds > MOST_YEARS * 365.25 * 86400:
            raise ConfigurationError(
                f"advance: a harness lets {MOST_YEARS} years pass in all, and not"
                f" {(self._advanced + seconds) / 365.25 / 86400:,.0f}."
            )
        self._advanced += seconds

    def crash_everywhere(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        signals: Mapping[str, object] | None = None,
        check: Check | None = None,
    ) -> Report:
        """Execute a run again and again, each time with the death of its worker at another commit.

        The worker dies before and after each commit in turn; the run goes on in another, as after
        `kill -9`. The report has what that changed: a second call of a handler, which has the same
        idempotency key, that returned something else; units, or the run, that ended otherwise; and
        what `check` returned. That is a function of the run's handle that returns what the run has
        done outside, as a value to compare. What differs between two undisturbed runs is not
        compared.

        `signals` are sent to each run at its start; times pass by themselves. A run of n commits is
        executed 2n + 2 times. Raises `RunStands` if it does not end, and `ConfigurationError` for a
        signal that no run takes, or if `check` returns another value for each undisturbed run.
        """
        sent = checked_names("signals", signals)
        name = workflow if isinstance(workflow, str) else workflow.name

        def start() -> Run:
            return self.durable.start(workflow, input)

        return Crashes(self, name, start, sent, check).report()

    def execute(self, start: Callable[[], Run], watch: Watch, signals: Mapping[str, object]) -> Run:
        """Start a run, and execute it to its end; replace a worker that dies on the way."""
        with self.at_work() as courier:
            self._refuse_to_join()
            self.drain_new()
            run = self._runs.handle(start())
            for name, data in signals.items():
                run.resume(name, data)
            with self._watched(watch):
                while not self._is_at_end(run, courier):
                    pass
        return run

    def _is_at_end(self, run: Run, courier: Courier) -> bool:
        """Go on until the run has ended, its worker dies, or a time has passed."""
        try:
            self.drain_new()
            status = run.status(results=False).status
            if status not in FINISHED:
                due_in = courier.seconds_to_next()
                if due_in is not None:
                    self.advance(due_in)
                elif not courier.follow_late():
                    raise RunStands(run.id, status, run.why())
        except Death:
            courier.replace_the_dead()
            return False
        return status in FINISHED

    def sent(self) -> Sequence[SentTask]:
        """Return the ordinary tasks in the outbox, the oldest first: `on_completed` and the like.

        Nothing sends them in a test.
        """
        # In a transaction of the framework's that is open, as in a TestCase, those of it too.
        with self.durable._reading(together=False) as connection:  # noqa: SLF001
            return messages.read_tasks(connection)

    @contextmanager
    def at_work(self) -> Iterator[Courier]:
        """Execute: other threads wait meanwhile, and calls of `start` leave it to this one.

        Handlers are inside of it, in whatever thread they go on. Postgres would keep threads apart
        too: one that has waited for long is waited for itself, and goes on.
        """
        if self.is_at_work:
            yield self._courier_of_database()
            return
        if self._is_closed:
            raise ConfigurationError(
                "This harness is closed. Make another one: `with Harness(durable) as harness:`."
            )
        self._refuse_uncommitted()
        is_locked = self._lock.acquire(timeout=WAITS_FOR)
        inside = self._is_inside.set(True)
        try:
            yield self._courier_of_database()
        finally:
            self._is_inside.reset(inside)
            if is_locked:
                self._lock.release()

    @property
    def is_at_work(self) -> bool:
        """True inside of `at_work`."""
        return self._is_inside.get()

    def _courier_of_database(self) -> Courier:
        """Return the courier; another where `Durable.reset` has been called since."""
        durable = self.durable
        if self._courier is None or self._courier.database is not durable.database:
            self._courier = Courier(durable, lambda: self.watch, self.handle)
            if durable.in_caller is not None:
                durable.in_caller.adopt(self)
        return self._courier

    def _refuse_to_join(self) -> None:
        """Raise `ConfigurationError` in a transaction that a start would join."""
        if self.durable.open.session() is not None:
            raise ConfigurationError(
                "A transaction is open that the start would join, and a harness executes only what"
                " is committed. Start the run with `start`, commit, and then call drain()."
            )

    def _refuse_uncommitted(self) -> None:
        """Raise `ConfigurationError` where what a test has done cannot be seen from outside."""
        framework = self.durable.framework
        if framework is not None and framework.open_transaction() is not None:
            raise ConfigurationError(
                "A transaction is open in this thread, and a harness executes only what is"
                " committed. A TestCase of Django commits nothing: use TransactionTestCase, or"
                " @pytest.mark.django_db(transaction=True)."
            )

    def _stepping(self) -> Iterator[Executed]:
        noted: deque[Executed] = deque()
        watch = _Noting(noted)
        with self.at_work() as courier:
            following = courier.follow(by_one=True, skip_backoffs=self.skip_backoffs)
        while True:
            with self.at_work(), self._watched(watch):
                is_over = next(following, ...) is ...
            while noted:
                yield noted.popleft()
            if is_over:
                return

    @contextmanager
    def _watched(self, watch: Watch) -> Iterator[None]:
        before, self.watch = self.watch, watch
        try:
            yield
        finally:
            self.watch = before


class _Noting(Watch):
    """Keeps what is executed."""

    def __init__(self, noted: deque[Executed]) -> None:
        self._noted = noted

    def executed(self, what: Executed) -> None:
        """Keep it."""
        self._noted.append(what)
