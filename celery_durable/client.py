"""What anybody may ask of runs, with or without the workflows' code."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from celery_durable import recovery
from celery_durable.checks import (
    LONGEST_PAGE,
    LONGEST_REASON,
    LONGEST_UNIT,
    Seconds,
    StartOptions,
    checked_key,
    checked_signal,
    checked_status,
    checked_tags,
    checked_workflow,
    seconds,
    text,
    truth,
    whole,
)
from celery_durable.core.child import NewRun
from celery_durable.core.names import HIGHEST_VERSION
from celery_durable.core.plan import Outline
from celery_durable.core.status import FINISHED
from celery_durable.ending import Ending
from celery_durable.errors import ConfigurationError, RunNotFound
from celery_durable.launching import Given, Launcher
from celery_durable.settings import Settings
from celery_durable.store import codec, inbox, runs, signals, views
from celery_durable.store.connection import Connection, joined
from celery_durable.store.database import Database
from celery_durable.store.notify import Notifier
from celery_durable.store.signals import Delivery
from celery_durable.store.views import JournalEntry, RunSnapshot, RunSummary
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.registry import Registry

logger = logging.getLogger(__name__)

SCHEDULE_TAG = "schedule"
"""The tag by which the runs of one schedule know each other."""

BULK, BULK_BYTES = 1000, 16 * 1024 * 1024
"""Runs that one statement of `start_many` writes, and bytes of their inputs: Postgres takes no
gigabyte.
"""


class Client:
    """The engine seen from outside of a worker."""

    def __init__(
        self, database: Database, registry: Registry, settings: Settings, notify: Notifier
    ) -> None:
        self._database = database
        self._registry = registry
        self._settings = settings
        self._notify = notify
        self.launcher = Launcher(database, registry, settings)

    def start(
        self,
        workflow: Workflow | str,
        input: object,
        *,
        key: str | None,
        version: int | None,
        session: object,
        options: StartOptions,
    ) -> tuple[UUID, bool]:
        """Write a run and its first hint in one statement; the run, and whether it is new."""
        checked_key(key)
        outline = self._outline(workflow, version)
        given = Given(key, options.priority, options.tags)
        new = self.launcher.new_run(outline, input, given)
        with self._writing(session) as connection:
            if not runs.start(connection, [new], options.delay) and key is not None:
                existing = runs.with_key(connection, outline.workflow, key)
                if existing is None:
                    raise ConfigurationError(
                        f"A run of {outline.workflow!r} with key {key!r} exists, but this"
                        " transaction cannot see it; use READ COMMITTED, or a new transaction."
                    )
                return existing, False
        return new.id, True

    def start_alone(self, workflow: str, input: object, *, key: str, schedule: str) -> UUID | None:
        """Start a run of the schedule, unless one is unfinished: None.

        Who asks at the same moment waits here, and sees the run that was started. A second start
        with the same key gives the first run, whatever has become of it.
        """
        checked_key(key)
        outline = self._outline(workflow, None)
        tags = checked_tags({SCHEDULE_TAG: schedule})
        new = self.launcher.new_run(outline, input, Given(key, None, tags))
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

    def start_many(
        self,
        workflow: Workflow | str,
        inputs: Sequence[object],
        *,
        version: int | None,
        session: object,
        options: StartOptions,
    ) -> list[UUID]:
        """Write a run for each input, all or none."""
        if isinstance(inputs, str | bytes) or not isinstance(inputs, Sequence):
            raise ConfigurationError(f"inputs takes a sequence of inputs, not {inputs!r:.60}.")
        outline = self._outline(workflow, version)
        given = Given(None, options.priority, options.tags)
        new = [self.launcher.new_run(outline, one, given) for one in inputs]
        with self._writing(session) as connection:
            for some in _in_bulks(new):
                runs.start(connection, some, options.delay)
        return [run.id for run in new]

    def _outline(self, workflow: Workflow | str, version: int | None) -> Outline:
        """Where a run of this workflow begins."""
        if version is not None:
            whole("version", version, 1, HIGHEST_VERSION)
        if isinstance(workflow, Workflow):
            return self.launcher.outline(workflow.name, version or workflow.version)
        return self.launcher.outline(checked_workflow(workflow), version)

    def run_with_key(self, workflow: str, key: str) -> UUID | None:
        """The run of the workflow that has this key."""
        checked_workflow(workflow)
        checked_key(key)
        with self._database.autocommit() as connection:
            return runs.with_key(connection, workflow, key)

    def status(self, run_id: UUID, *, results: bool) -> RunSnapshot:
        """How the run stands now."""
        with self._database.snapshot() as connection:
            found = views.snapshot(connection, run_id, results=bool(results))
        if found is None:
            raise RunNotFound(run_id)
        return found

    def list(
        self,
        *,
        status: str | None,
        workflow: str | None,
        parent: UUID | None,
        tags: Mapping[str, str] | None,
        limit: int,
        before: UUID | None,
    ) -> Sequence[RunSummary]:
        """Runs, newest first."""
        with self._database.autocommit() as connection:
            return views.list_runs(
                connection,
                status=checked_status(status),
                workflow=None if workflow is None else checked_workflow(workflow),
                parent=parent,
                tags=checked_tags(tags),
                limit=whole("limit", limit, 1, LONGEST_PAGE),
                before=before,
            )

    def history(
        self, run_id: UUID, *, limit: int | None, after: str | None, results: bool
    ) -> Sequence[JournalEntry]:
        """The units that ended."""
        if limit is not None:
            whole("limit", limit, 1, LONGEST_PAGE)
        if after is not None:
            text("after", after, LONGEST_UNIT)
        with self._database.snapshot() as connection:
            entries = views.history(
                connection, run_id, limit=limit, after=after, results=bool(results)
            )
            if entries:
                return entries
            if not views.exists(connection, run_id):
                raise RunNotFound(run_id)
            if after is not None and not views.has_ended(connection, run_id, after):
                raise ConfigurationError(
                    f"after= takes the last unit of the page before; none that ended in run"
                    f" {run_id} is called {after!r}."
                )
        return entries

    def ending(self, run_id: UUID, timeout: Seconds | None) -> Ending:
        """A wait for the run's end, to be looked at again and again."""
        return Ending(self._database, run_id, seconds("timeout", timeout))

    def result(self, run_id: UUID, timeout: Seconds | None) -> Any:
        """Wait for the run to end and give its result."""
        ending = self.ending(run_id, timeout)
        while not isinstance(answer := ending.look(), tuple):
            time.sleep(answer)
        return answer[0]

    def cancel(
        self, run_id: UUID, *, compensate: bool, reason: str | None, session: object
    ) -> None:
        """Ask the run to end. A run that has ended already stays as it is."""
        if reason is not None:
            text("reason", reason, LONGEST_REASON)
        command = inbox.Cancel(compensate=truth("compensate", compensate), reason=reason)
        with self._writing(session) as connection:
            found = views.status_of(connection, run_id)
            if found is None:
                raise RunNotFound(run_id)
            if found[0] in FINISHED:
                return
            inbox.send(connection, run_id, command)
            inbox.put_hint(connection, run_id)
        if session is None:
            recovery.apply_unless_locked(self._database, run_id)
            self._notify()

    def resume(
        self, run_id: UUID, signal: str, data: object, *, key: str | None, session: object
    ) -> Delivery:
        """Put a signal into the run's inbox."""
        checked_signal(signal)
        checked_key(key)
        limit = self._settings.max_payload_bytes
        payload = codec.dumps(data, what=f"the data of {signal}", limit=limit)
        with self._writing(session) as connection:
            delivery = signals.send(connection, run_id, signal, payload, key)
            if delivery is None:
                raise RunNotFound(run_id)
        if delivery.warning is not None:
            logger.warning("Signal for run %s: %s", run_id, delivery.warning)
        return delivery

    def recover(self) -> int:
        """Free what the dead had claimed and send lost hints again."""
        moved = recovery.recover(self._database)
        if moved:
            self._notify()
        return moved

    @contextmanager
    def _writing(self, session: object) -> Iterator[Connection]:
        """The caller's transaction, or one of our own that commits with the block."""
        if session is not None:
            yield joined(session, self._settings.schema)
            return
        with self._database.transaction() as connection:
            yield connection
        self._notify()


def _in_bulks(new: Sequence[NewRun]) -> Iterator[Sequence[NewRun]]:
    """The runs in the parts that one statement takes."""
    first = size = 0
    for at, run in enumerate(new):
        size += len(run.input)
        if at > first and (at - first == BULK or size > BULK_BYTES):
            yield new[first:at]
            first, size = at, len(run.input)
    if new:
        yield new[first:]
