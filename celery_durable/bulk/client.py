"""`Bulk` is a client that acts on many runs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from celery_durable.arguments import checked_flag
from celery_durable.bulk.result import BulkResult
from celery_durable.bulk.walk import walk_of
from celery_durable.client import Client
from celery_durable.connected import twin
from celery_durable.core.status import Status, StatusName
from celery_durable.store.read.filters import checked_filter

BulkAction = Literal[
    "cancel",
    "retry",
    "retry_now",
    "resume",
    "pause",
    "unpause",
    "retry_compensation",
    "prune",
]
"""The actions, by the names of the methods that do them to one run."""


class Bulk(Client):
    """A client that acts on many runs at once."""

    def bulk(
        self,
        action: BulkAction,
        *,
        status: Status | StatusName | None = None,
        workflow: str | None = None,
        parent: UUID | str | None = None,
        tags: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        run_key: str | None = None,
        error: str | None = None,
        compensation_failed: bool | None = None,
        everything: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[BulkResult], object] | None = None,
        compensate: bool = False,
        reason: str | None = None,
        from_step: str | None = None,
        signal: str | None = None,
        data: object = None,
        key: str | None = None,
        older_than: float | timedelta | None = None,
    ) -> BulkResult:
        """Do to all runs of a filter what the method called `action` does to one.

        The filters are those of `list`, with `run_key` for its `key`; without any, all runs are
        meant only with `everything=True`. The options are those of the method: `compensate` and
        `reason` of `cancel`, `from_step` of `retry`, `signal`, `data` and `key` of `resume`,
        `reason` of `pause`, `older_than` of `prune`.

        Of these runs only those match to which it can be done, and has not been done: `retry` is
        for failed runs, or those of `status`, the last one where a run was tried again before;
        `retry` and `prune` are for runs that are nobody's child. Runs that are started meanwhile
        are left alone. It works page by page, the oldest runs first (`prune`: the newest), each
        page in transactions of its own, and calls `on_progress` with the result up to there after
        each. Whatever interrupts it, the same call goes on; with `resume`, give a
        `key`, so that no run gets the signal twice. With `dry_run` it only counts.

        What a run is refused for is counted in the result and not raised. Raises
        `ConfigurationError`, or `PayloadError` for `data`, before anything is done.
        """
        found = checked_filter(
            status=status,
            workflow=workflow,
            parent=parent,
            tags=tags,
            since=since,
            until=until,
            key=run_key,
            error=error,
            compensation_failed=compensation_failed,
        )
        options = {
            "compensate": compensate or None,
            "reason": reason,
            "from_step": from_step,
            "signal": signal,
            "data": data,
            "key": key,
            "older_than": older_than,
        }
        given = {name: value for name, value in options.items() if value is not None}
        walk = walk_of(self, action, found, given, everything=everything)
        if checked_flag("dry_run", dry_run):
            return BulkResult(matched=walk.count())
        return walk.go(on_progress)

    abulk = twin(bulk)
