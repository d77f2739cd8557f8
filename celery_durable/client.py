"""`Client` starts, reads and steers runs, with or without the workflows' code."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from celery_durable.arguments import (
    LONGEST_PAGE,
    LONGEST_REASON,
    LONGEST_UNIT,
    checked_flag,
    checked_key,
    checked_priority,
    checked_run_id,
    checked_seconds,
    checked_signal,
    checked_status,
    checked_tags,
    checked_text,
    checked_whole,
    checked_workflow,
)
from celery_durable.background import recovery
from celery_durable.core.child import NewRun
from celery_durable.core.names import HIGHEST_VERSION
from celery_durable.core.plan import Outline
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.why import Diagnosis
from celery_durable.database.connections import Database
from celery_durable.database.ends import Ends
from celery_durable.database.notify import Notifier
from celery_durable.engine.children import RunFactory, StartOptions
from celery_durable.errors import ConfigurationError, RunCancelled, RunError, RunFailed, RunNotFound
from celery_durable.process.once import once
from celery_durable.process.threads import Threads
from celery_durable.run import Run
from celery_durable.settings import Settings
from celery_durable.store import codec, inbox, runs, signals
from celery_durable.store.connection import Connection, connection_of
from celery_durable.store.read import facts, history, views
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.outcome import outcome as read_outcome
from celery_durable.store.read.views import RunSnapshot, RunSummary
from celery_durable.store.signals import Delivery
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

SCHEDULE_TAG = "schedule"
"""The tag that the runs of one schedule share; its value is the schedule's name."""

BATCH, BATCH_BYTES = 1000, 16 * 1024 * 1024
"""Most runs that one statement of `start_many` writes, and most bytes of their inputs: Postgres
refuses a gigabyte.
"""

Runs = list[Run]  # inside Client, `list` is the method

C = TypeVar("C", bound="Client")
P = ParamSpec("P")
T = TypeVar("T")


def twin(
    method: Callable[Concatenate[C, P], T],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, T]]:
    """Make the `async` twin of a method: `astart` of `start`.

    It joins the transaction of `session`, an AsyncSession or AsyncConnection; without one it runs
    in a thread. A subclass that overrides the method has overridden its twin.
    """
    name, form = method.__name__, signature(method)
    joins = "session" in form.parameters

    async def awaited(client: C, /, *args: P.args, **options: P.kwargs) -> T:
        call: Callable[..., T] = getattr(client, name)
        session: Any = options.pop("session", None) if joins else None
        if session is None:
            return await client.threads.call(lambda: call(*args, **options))
        if not hasattr(session, "run_sync"):
            raise ConfigurationError(
                f"session= of an async method takes an AsyncSession or AsyncConnection,"
                f" not {type(session).__name__}."
            )
        joined: T = await session.run_sync(lambda sync: call(*args, **options, session=sync))
        return joined

    owner = method.__qualname__.removesuffix(name)
    awaited.__name__, awaited.__qualname__ = f"a{name}", f"{owner}a{name}"
    awaited.__module__, awaited.__signature__ = method.__module__, form  # type: ignore[attr-defined]
    awaited.__doc__ = f"`{name}` for `async` code."
    if joins:
        awaited.__doc__ += " `session` is an AsyncSession or AsyncConnection."
    return awaited


class Client:
    """Starts runs, reads them, and sends them signals and cancels. Nothing here needs Celery.

    Settings are read and connections are made when they are first needed.
    """

    def __init__(self, registry: Registry, read_settings: Callable[[], Settings]) -> None:
        self.registry = registry
        self.threads = Threads()
        self._read_settings = read_settings

    @once
    def settings(self) -> Settings:
        """The app's `durable_*` settings, read once when they are first needed."""
        chosen = self._read_settings()
        codec.allow(chosen.allowed_types)
        return chosen

    @once
    def database(self) -> Database:
        """This process's connections to Postgres."""
        chosen = self.settings
        return Database(
            chosen.database_url, direct_url=chosen.direct_database_url, schema=chosen.schema
        )

    @once
    def notify(self) -> Notifier:
        """The notifier, which wakes the relays, and tells of runs that have ended."""
        return Notifier(self.database)

    @property
    def ends(self) -> Ends:
        """The ends of runs that this process waits for."""
        return self._ends  # type checkers take no `once` for the attribute of a protocol

    @once
    def _ends(self) -> Ends:
        return Ends(self.database)

    @once
    def run_factory(self) -> RunFactory:
        """The factory that makes runs ready to start."""
        return RunFactory(self.database, self.registry, self.settings)

    def start(
        self,
        workflow: Workflow | str,
        input: object = None,
        *,
        key: str | None = None,
        version: int | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run and return a handle on it.

        With `session` the run starts if and when that transaction commits. `key` is unique per
        workflow: a second start with it returns the first run, with `.created` False. `delay` is in
        seconds. Raises `UnknownWorkflow`, `PayloadError` or `ConfigurationError`, having written
        nothing.
        """
        options = StartOptions(checked_key(key), checked_priority(priority), checked_tags(tags))
        wait = checked_seconds("delay", delay) or 0.0
        outline = self._outline(workflow, version)
        new = self.run_factory.new_run(outline, input, options)
        # With a key it may wait for another start, for which only a transaction has a bound.
        with self._writing(session, together=key is not None) as connection:
            if not runs.start(connection, [new], wait) and key is not None:
                existing = runs.with_key(connection, outline.workflow, key)
                if existing is None:
                    raise ConfigurationError(
                        f"A run of {outline.workflow!r} with key {key!r} exists, but this"
                        " transaction cannot see it; use READ COMMITTED, or a new transaction."
                    )
                return Run(self, existing)
        return Run(self, new.id, created=True)

    astart = twin(start)

    def start_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        version: int | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Runs:
        """Start a run for each input in one transaction: all, or none."""
        if isinstance(inputs, str | bytes) or not isinstance(inputs, Sequence):
            raise ConfigurationError(f"inputs takes a sequence of inputs, not {inputs!r:.60}.")
        options = StartOptions(None, checked_priority(priority), checked_tags(tags))
        wait = checked_seconds("delay", delay) or 0.0
        outline = self._outline(workflow, version)
        new = [self.run_factory.new_run(outline, one, options) for one in inputs]
        with self._writing(session) as connection:
            for batch in _in_batches(new):
                runs.start(connection, batch, wait)
        return [Run(self, run.id, created=True) for run in new]

    astart_many = twin(start_many)

    def start_alone(self, workflow: str, input: object, *, key: str, schedule: str) -> UUID | None:
        """Start a run of the schedule and return its id; None while one of its runs is unfinished.

        Concurrent calls wait for each other here, so the later one sees the run that the first has
        started. A second start with the same key returns the first run, whatever its status.
        """
        checked_key(key)
        outline = self._outline(workflow, None)
        tags = checked_tags({SCHEDULE_TAG: schedule})
        new = self.run_factory.new_run(outline, input, StartOptions(key, None, tags))
        with self._writing(None) as connection:
            runs.wait_for_schedule(connection, outline.workflow, schedule)
            existing = runs.with_key(connection, outline.workflow, key)
            if existing is not None:
                return existing
            if runs.is_scheduled(connection, outline.workflow, schedule):
                return None
            if not runs.start(connection, [new], 0.0):
                return runs.with_key(connection, outline.workflow, key)
        return new.id

    def _outline(self, workflow: Workflow | str, version: int | None) -> Outline:
        """Return the outline of the workflow, which says where its runs begin."""
        if version is not None:
            checked_whole("version", version, 1, HIGHEST_VERSION)
        if isinstance(workflow, Workflow):
            return self.run_factory.outline(workflow.name, version or workflow.version)
        return self.run_factory.outline(checked_workflow(workflow), version)

    def run(
        self,
        run_id: UUID | str | None = None,
        *,
        workflow: str | None = None,
        key: str | None = None,
    ) -> Run:
        """Return a handle on a run, by its id, or by its workflow and key.

        An id is looked up only when the handle is used (`RunNotFound`). A key is looked up at once:
        raises `RunError` if no run of the workflow has it.
        """
        if run_id is not None:
            return Run(self, checked_run_id(run_id))
        if workflow is None or key is None:
            raise ConfigurationError("run() takes a run id, or a workflow and a key.")
        checked_workflow(workflow)
        checked_key(key)
        with self.database.autocommit() as connection:
            found = runs.with_key(connection, workflow, key)
        if found is None:
            raise RunError(None, f"Workflow {workflow!r} has no run with key {key!r}.")
        return Run(self, found)

    def status(self, run_id: UUID | str, *, results: bool = True) -> RunSnapshot:
        """Return the state of the run at one moment. Raises `RunNotFound`.

        With `results=False` results are not read; `sizes` says how large they are.
        """
        run_id = checked_run_id(run_id)
        with self.database.read_only() as connection:
            found = views.snapshot(connection, run_id, results=bool(results))
        if found is None:
            raise RunNotFound(run_id)
        return found

    astatus = twin(status)

    def outcome(self, run_id: UUID) -> tuple[Any] | Status:
        """Return the result of a completed run, in a tuple; the status of an unfinished run.

        Raises `RunFailed`, `RunCancelled` or `RunNotFound`.
        """
        with self.database.autocommit() as connection:
            found = read_outcome(connection, run_id)
        if found is None:
            raise RunNotFound(run_id)
        match found.status:
            case Status.COMPLETED:
                return (found.result,)
            case Status.FAILED:
                raise RunFailed(run_id, found.error)
            case Status.CANCELLED:
                error = found.error
                raise RunCancelled(run_id, (error.message or None) if error else None)
            case unfinished:
                return unfinished

    aoutcome = twin(outcome)

    def list(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        parent: UUID | str | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = 100,
        before: UUID | str | None = None,
    ) -> Sequence[RunSummary]:
        """Return runs, newest first, in one query.

        For the next page, pass the last run id of this page as `before`.
        """
        with self.database.autocommit() as connection:
            return views.list_runs(
                connection,
                status=checked_status(status),
                workflow=None if workflow is None else checked_workflow(workflow),
                parent=checked_run_id(parent) if parent else None,
                tags=checked_tags(tags),
                limit=checked_whole("limit", limit, 1, LONGEST_PAGE),
                before=checked_run_id(before) if before else None,
            )

    alist = twin(list)  # noqa: A003 - it is the method

    def why(self, run_id: UUID | str) -> Diagnosis:
        """Explain why the run stands where it stands, from the outbox to the worker.

        Raises `RunNotFound`.
        """
        run_id = checked_run_id(run_id)
        with self.database.read_only() as connection:
            found = facts.diagnosis(connection, run_id)
        if found is None:
            raise RunNotFound(run_id)
        return found

    awhy = twin(why)

    def history(
        self,
        run_id: UUID | str,
        *,
        limit: int | None = None,
        after: str | None = None,
        results: bool = True,
    ) -> Sequence[JournalEntry]:
        """Return the units of the run that ended, in order of completion. Raises `RunNotFound`.

        Returns all, or at most `limit`; for the next page, pass the last unit of this page as
        `after`. With `results=False` results are not read; `size` says how large each is.
        """
        run_id = checked_run_id(run_id)
        if limit is not None:
            checked_whole("limit", limit, 1, LONGEST_PAGE)
        if after is not None:
            checked_text("after", after, LONGEST_UNIT)
        with self.database.read_only() as connection:
            entries = history.entries(
                connection, run_id, limit=limit, after=after, results=bool(results)
            )
            if entries:
                return entries
            if not views.exists(connection, run_id):
                raise RunNotFound(run_id)
            if after is not None and not history.has_ended(connection, run_id, after):
                raise ConfigurationError(
                    f"after= takes the last unit of the page before; none that ended in run"
                    f" {run_id} is called {after!r}."
                )
        return entries

    ahistory = twin(history)

    def cancel(
        self,
        run_id: UUID | str,
        *,
        compensate: bool = False,
        reason: str | None = None,
        session: object = None,
    ) -> None:
        """Ask the run to end; a run that has ended stays as it is. Raises `RunNotFound`.

        No further unit begins. What waits ends at once. A unit that is being executed runs to its
        end, and its result is dropped. With `compensate` its result counts, and everything that has
        completed is compensated.
        """
        run_id = checked_run_id(run_id)
        if reason is not None:
            checked_text("reason", reason, LONGEST_REASON)
        command = inbox.Cancel(compensate=checked_flag("compensate", compensate), reason=reason)
        with self._writing(session) as connection:
            found = views.status_of(connection, run_id)
            if found is None:
                raise RunNotFound(run_id)
            if found[0] in FINISHED:
                return
            inbox.send(connection, run_id, command)
            inbox.put_hint(connection, run_id)
        if session is None:
            recovery.apply_unless_locked(self.database, run_id)
            self.notify()

    acancel = twin(cancel)

    def resume(
        self,
        run_id: UUID | str,
        signal: str,
        data: Any = None,
        *,
        key: str | None = None,
        session: object = None,
    ) -> Delivery:
        """Send the run a signal, for a wait or a suspended step. Raises `RunNotFound`.

        The signal may come before the run waits for it: it is kept until it is consumed or the run
        ends. Signals of one name are consumed in the order in which they came. Those with the same
        name and `key` count once. With `session` the signal is sent if and when that transaction
        commits.
        """
        run_id = checked_run_id(run_id)
        checked_signal(signal)
        checked_key(key)
        limit = self.settings.max_payload_bytes
        payload = codec.dumps(data, what=f"the data of {signal}", limit=limit)
        with self._writing(session) as connection:
            delivery = signals.send(connection, run_id, signal, payload, key)
            if delivery is None:
                raise RunNotFound(run_id)
        if delivery.warning is not None:
            logger.warning("Signal for run %s: %s", run_id, delivery.warning)
        return delivery

    aresume = twin(resume)

    def recover(self) -> int:
        """Reap the claims of dead workers, send lost hints again, and return how many tokens moved.

        It is safe at any time and anywhere, also many times at once. Relays do it too.
        """
        moved = recovery.recover(self.database)
        if moved:
            self.notify()
        return moved

    arecover = twin(recover)

    @contextmanager
    def _writing(self, session: object, *, together: bool = True) -> Iterator[Connection]:
        """Yield a connection in the caller's transaction, or in our own, committed at the end.

        Without `together` one statement is its own transaction: three round trips less. Behind a
        transaction pooler nothing bounds how long it waits for a lock.
        """
        if session is not None:
            yield connection_of(session, self.settings.schema)
            return
        with self.database.transaction() if together else self.database.autocommit() as connection:
            yield connection
        self.notify()


def _in_batches(new: Sequence[NewRun]) -> Iterator[Sequence[NewRun]]:
    """Split runs into batches, each for one statement."""
    first = size = 0
    for at, run in enumerate(new):
        size += len(run.input)
        if at > first and (at - first == BATCH or size > BATCH_BYTES):
            yield new[first:at]
            first, size = at, len(run.input)
    if new:
        yield new[first:]
