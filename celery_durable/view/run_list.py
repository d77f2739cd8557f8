"""A page of a list of runs, each with why it stands where it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from celery_durable.core.reason import Reason
from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.store.read import facts, listing, traffic
from celery_durable.store.read.filters import RunFilter
from celery_durable.store.read.listing import RunSummary


@dataclass(frozen=True, slots=True)
class RunList:
    """Runs, the newest first, at the moment `at`; `reasons` are those of unfinished ones.

    `older` is what the next page is asked for with; None if there is none.
    """

    at: datetime
    runs: Sequence[RunSummary]
    reasons: Mapping[UUID, Sequence[Reason]] = field(default_factory=dict)
    older: UUID | None = None


def read_runs(durable: Durable, found: RunFilter, *, limit: int, before: UUID | None) -> RunList:
    """Read a page of the runs of a filter."""
    with durable.database.read_only() as connection:
        runs = listing.list_runs(connection, found, limit=limit + 1, before=before)
        shown = runs[:limit]
        unfinished = [run.run_id for run in shown if run.status not in FINISHED]
        why = facts.diagnoses(connection, unfinished) if unfinished else ()
        return RunList(
            at=traffic.now(connection),
            runs=shown,
            reasons={one.run_id: one.reasons for one in why},
            older=shown[-1].run_id if len(runs) > limit else None,
        )
