"""What every action has in common: it does a page together, and what that leaves out run by run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from celery_durable.bulk.result import Acted
from celery_durable.client import Client
from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import RunError
from celery_durable.store.read.filters import RunFilter
from celery_durable.store.read.matching import Match
from celery_durable.store.sqlstates import Hindered

UNFINISHED = frozenset(Status) - FINISHED

PAGE = 1000
"""Runs that one transaction changes."""


class Action(ABC):
    """What is done to runs, and how they must stand for it."""

    options: ClassVar[frozenset[str]] = frozenset()
    """The options that it takes."""

    statuses: ClassVar[frozenset[Status]] = UNFINISHED
    default_status: ClassVar[Status | None] = None
    oldest_first: ClassVar[bool] = True

    standing: frozenset[str]
    """How the runs must stand: names in `matching.STANDING`."""

    limit = PAGE
    """The most runs of the next page."""

    def __init__(self, client: Client, found: RunFilter, options: Mapping[str, Any]) -> None:  # noqa: ARG002 - as all have it
        self.client = client
        self.parameters: Mapping[str, Any] = {}
        """The parameters of `standing`."""

    def act(self, runs: Sequence[Match]) -> Acted:
        """Do it to a page of runs; where Postgres cannot do it together, to each alone."""
        try:
            acted = self.together(runs)
        except Hindered:
            acted = Acted()
        done, refused = set(acted.done), dict(acted.refused)
        for run_id in [run.id for run in runs if run.id not in done and run.id not in refused]:
            try:
                if self.alone(run_id):
                    done.add(run_id)
            except (RunError, Hindered) as error:
                refused[run_id] = error
        return Acted(done, refused)

    @abstractmethod
    def together(self, runs: Sequence[Match]) -> Acted:
        """Do it in few statements to those of the runs that allow it."""

    @abstractmethod
    def alone(self, run_id: UUID) -> bool:
        """Do it to a run that `together` has left out; return False if it needs it no more."""
