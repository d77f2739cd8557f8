"""Goes over the runs that match, page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery_durable.arguments import checked_choice, checked_flag
from celery_durable.bulk.action import Action
from celery_durable.bulk.actions import ACTIONS
from celery_durable.bulk.result import BulkResult, Tally
from celery_durable.client import Client
from celery_durable.core.status import Status
from celery_durable.errors import ConfigurationError
from celery_durable.store.read import matching
from celery_durable.store.read.filters import RunFilter
from celery_durable.store.read.matching import Example, Matching

COUNTED, SHOWN = 100_000, 5
"""The most runs that a preview counts, and shows."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an action would be done to: how many runs by workflow and status, and the first ones."""

    counted: Counter[tuple[str, Status]]
    first: Sequence[Example]

    @property
    def matched(self) -> int:
        """How many runs match, or `COUNTED` if there are more."""
        return self.counted.total()

    @property
    def is_all(self) -> bool:
        """False if there may be more than were counted."""
        return self.matched < COUNTED


class Walk:
    """The way of one action over the runs of a filter."""

    def __init__(self, client: Client, action: Action, found: RunFilter) -> None:
        self._database = client.database
        self._action = action
        self._these = Matching(
            found, action.standing, action.parameters, oldest_first=action.oldest_first
        )

    def preview(self) -> Preview:
        """Count the runs, and look at the first ones."""
        with self._database.read_only() as connection:
            counted = matching.count(connection, self._these, COUNTED)
            return Preview(counted, matching.examples(connection, self._these, SHOWN))

    def count(self) -> int:
        """Count all of the runs."""
        with self._database.autocommit() as connection:
            return matching.count(connection, self._these, None).total()

    def go(self, on_progress: Callable[[BulkResult], object] | None = None) -> BulkResult:
        """Do it to all runs that are there now; call `on_progress` after each page.

        Runs that are started meanwhile are left alone: a retry would never come to an end.
        """
        tally = Tally()
        with self._database.autocommit() as connection:
            these = self._these.before(matching.now(connection))
        last: UUID | None = None
        while True:
            limit = self._action.limit
            with self._database.autocommit() as connection:
                runs = matching.page(connection, these, limit, last)
            if runs:
                last = runs[-1].id
                tally.add(len(runs), self._action.act(runs))
                if on_progress is not None:
                    on_progress(tally.result())
            if len(runs) < limit:
                return tally.result()


def walk_of(
    client: Client, name: str, found: RunFilter, options: Mapping[str, Any], *, everything: bool
) -> Walk:
    """Check what a caller asks for. Raises `ConfigurationError`, or `PayloadError`."""
    kind = ACTIONS[checked_choice("action", name, [*ACTIONS])]
    if unknown := [*options.keys() - kind.options]:
        raise ConfigurationError(f"{unknown[0]}= is no option of {name}.")
    is_filtered = bool(found.conditions()) or found.error is not None
    if checked_flag("everything", everything) is is_filtered:
        raise ConfigurationError(
            "everything=True says that all runs are meant: leave out the filters."
            if is_filtered
            else f"{name} without a filter is for all runs: say so with everything=True."
        )
    if found.status is None and kind.default_status is not None:
        found = found.with_status(kind.default_status)
    action = kind(client, found, options)
    if found.status is not None and found.status not in action.statuses:
        fitting = ", ".join(status for status in Status if status in action.statuses)
        raise ConfigurationError(
            f"{name} is nothing for runs that are {found.status.value}; it is for {fitting}."
        )
    return Walk(client, action, found)
