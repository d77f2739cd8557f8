"""Reads what the page of a run shows: the run, why it stands, its units, and what has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import log
from uuid import UUID

from celery_durable.core.reason import Diagnosis, Reason
from celery_durable.core.status import FINISHED
from celery_durable.durable import Durable
from celery_durable.errors import RunNotFound
from celery_durable.store.connection import Connection
from celery_durable.store.read import asking, facts, folded, overview, received
from celery_durable.store.read.folded import Line, Trying
from celery_durable.store.read.overview import Glimpse
from celery_durable.store.read.received import Last, Received
from celery_durable.view.run import RunView, counted_nodes, view_of

MOST_LINES = 200
"""Units, or nodes with all their items, that the page lists; another page lists all of them."""

MOST_TRYING = 50
"""Units between two tries that the page lists."""

MOST_ASKING = 100
"""Waits for a person that the page leads to."""

MOST_SIGNALS = 50
"""Signals that the page lists, the last ones."""


SHARE, LEAST = 0.05, 2.0
"""Of its whole length, and seconds, by which a timeline grows until it is drawn again."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """A run as its page shows it, at one moment. `lines` are the first of `line_count`.

    `asking` are the tokens that wait for a person, by their units.
    """

    view: RunView
    why: Diagnosis
    lines: Sequence[Line]
    line_count: int
    trying: Sequence[Trying]
    signals: Sequence[Received]
    asking: Mapping[str, UUID]

    @property
    def at(self) -> datetime:
        """The moment, by the clock of the database."""
        return self.why.at


@dataclass(frozen=True, slots=True)
class Mark:
    """By this two looks at a run are compared: the page is the same as long as this is.

    A reason may change without the run: its worker dies, a relay comes back. The timeline of a run
    that has not ended grows.
    """

    glimpse: Glimpse
    last: Last
    reasons: tuple[Reason, ...]
    growth: int

    def is_alike_but_for_age(self, other: Mark) -> bool:
        """True if what is read of the run is the same, though its timeline may have grown."""
        return replace(self, growth=other.growth) == other


def growth_at(age: timedelta) -> int:
    """How often a timeline that is so long has grown by a `SHARE` of it, or by `LEAST` seconds."""
    seconds, even = age.total_seconds(), LEAST / SHARE
    if seconds < even:
        return int(seconds / LEAST)
    return int((1 + log(seconds / even)) / SHARE)


class PageReader:
    """Reads a run any number of times; does not read again what has not changed."""

    def __init__(self, durable: Durable, run_id: UUID) -> None:
        self._database = durable.database
        self._run_id = run_id
        self.mark: Mark | None = None
        self._page: RunPage | None = None

    def read(self) -> RunPage:
        """The run at this moment. Raises `RunNotFound`."""
        with self._database.read_only() as connection:
            glimpse = overview.glimpse(connection, self._run_id)
            why = facts.diagnosis(connection, self._run_id)
            if glimpse is None or why is None:
                raise RunNotFound(self._run_id)
            last = received.last(connection, self._run_id)
            growth = 0 if glimpse.status in FINISHED else growth_at(why.at - glimpse.created_at)
            mark = Mark(glimpse, last, why.reasons, growth)
            if self._page is None or self.mark is None or not mark.is_alike_but_for_age(self.mark):
                self._page = _page(connection, glimpse, why)
            self.mark = mark
        return self._page

    @property
    def has_ended(self) -> bool:
        """True if the run had ended when it was read last."""
        return self.mark is not None and self.mark.glimpse.status in FINISHED


def _page(connection: Connection, glimpse: Glimpse, why: Diagnosis) -> RunPage:
    run_id = why.run_id
    view = view_of(connection, run_id, glimpse, with_results=False)
    lines = folded.lines(connection, run_id, counted_nodes(view.plan_nodes))
    return RunPage(
        view=view,
        why=why,
        lines=lines[:MOST_LINES],
        line_count=len(lines),
        trying=folded.trying(connection, run_id, MOST_TRYING),
        signals=received.signals(connection, run_id, MOST_SIGNALS),
        asking=asking.tokens(connection, run_id, MOST_ASKING) if view.snapshot.awaiting else {},
    )
