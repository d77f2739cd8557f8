"""`Reading` says how runs stand: one, many, and who executes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from celery_durable.arguments import (
    LONGEST_PAGE,
    LONGEST_UNIT,
    checked_run_id,
    checked_text,
    checked_whole,
)
from celery_durable.connected import Connected, twin
from celery_durable.core.action import Action
from celery_durable.core.fleet import QueueInfo, WorkerInfo
from celery_durable.core.reason import Diagnosis
from celery_durable.core.status import Status, StatusName
from celery_durable.errors import ConfigurationError, RunCancelled, RunFailed, RunNotFound
from celery_durable.store.read import actions, facts, fleet, history, listing, views
from celery_durable.store.read.filters import checked_filter
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.listing import RunSummary
from celery_durable.store.read.outcome import outcome as read_outcome
from celery_durable.store.read.views import RunSnapshot


class Reading(Connected):
    """What is read of runs; nothing here writes."""

    def status(self, run_id: UUID | str, *, results: bool = True) -> RunSnapshot:
        """Return the state of the run at one moment. Raises `RunNotFound`.

        With `results=False` neither the input nor results are read; `sizes` says how large results
        are.
        """
        run_id = checked_run_id(run_id)
        with self._reading() as connection:
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
        status: Status | StatusName | None = None,
        workflow: str | None = None,
        parent: UUID | str | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = 100,
        before: UUID | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        key: str | None = None,
        error: str | None = None,
        compensation_failed: bool | None = None,
        ended_since: datetime | None = None,
        standing_since: datetime | None = None,
    ) -> Sequence[RunSummary]:
        """Return runs, newest first, in one query; only those of which every filter is true.

        They were created at `since` or later, and before `until`: datetimes with a time zone.
        `error` is the type of an error, with its module or without, `"Declined"`, or a type and a
        part of the message, `"Declined: no money"`: of the run, or of the last attempt of a unit
        that is tried again.
        With `compensation_failed=True` a compensation of the run has failed for good, with `False`
        none has. With `ended_since` they have ended then or later: runs that are no children, the
        last 10,000 of them; it needs a `status` in which runs end. With `standing_since` they have
        not ended, and nothing of them has moved since then. For the next page, pass the last run id
        of this page as `before`. Raises `ConfigurationError`.
        """
        found = checked_filter(
            status=status,
            workflow=workflow,
            parent=parent,
            tags=tags,
            since=since,
            until=until,
            key=key,
            error=error,
            compensation_failed=compensation_failed,
            ended_since=ended_since,
            standing_since=standing_since,
        )
        checked_whole("limit", limit, 1, LONGEST_PAGE)
        last = checked_run_id(before) if before else None
        with self._reading(together=False) as connection:
            return listing.list_runs(connection, found, limit=limit, before=last)

    alist = twin(list)  # noqa: A003 - it is the method

    def why(self, run_id: UUID | str) -> Diagnosis:
        """Explain why the run stands where it stands, from the outbox to the worker.

        Raises `RunNotFound`.
        """
        run_id = checked_run_id(run_id)
        with self._reading() as connection:
            found = facts.diagnosis(connection, run_id)
        if found is None:
            raise RunNotFound(run_id)
        return found

    awhy = twin(why)

    def workers(self) -> Sequence[WorkerInfo]:
        """Return the worker processes that have not ended, and what each is executing."""
        with self.database.read_only() as connection:
            return fleet.workers(connection)

    aworkers = twin(workers)

    def queues(self) -> Sequence[QueueInfo]:
        """Return what waits for each queue, and who consumes it.

        Queues that hold nothing are there if a live worker consumes them. Counts stop at 100,000.
        """
        with self.database.read_only() as connection:
            return fleet.queues(connection, fleet.workers(connection))

    aqueues = twin(queues)

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
        with self._reading() as connection:
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

    def actions(self, run_id: UUID | str | None = None, *, limit: int = 100) -> Sequence[Action]:
        """Return what was done to a run, or to all runs, workflows and steps, the latest first.

        They are noted as `acting` says, and deleted with their run. Raises `RunNotFound`.
        """
        checked_whole("limit", limit, 1, LONGEST_PAGE)
        wanted = None if run_id is None else checked_run_id(run_id)
        with self._reading() as connection:
            found = actions.latest(connection, wanted, limit)
            if wanted is not None and not found and not views.exists(connection, wanted):
                raise RunNotFound(wanted)
        return found

    aactions = twin(actions)
