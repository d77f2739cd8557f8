"""Looking at a run: everything that is drawn of it, read as cheaply as the picture allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_durable.cli.document import fields_of
from celery_durable.cli.steps import COUNTED, StepStanding, standings
from celery_durable.core.status import FINISHED, Status
from celery_durable.durable import Durable
from celery_durable.errors import RunNotFound
from celery_durable.run import Run
from celery_durable.store.connection import Connection
from celery_durable.store.read import overview, results, views
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.overview import Glimpse, Tally
from celery_durable.store.read.views import RunSnapshot

SHOWN = 4_000
"""Bytes, as Postgres keeps them, up to which a result is read to show the beginning of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as it was found; of maps and loops the journal's entries are counted, not listed.

    `result` is that of a completed run, in a tuple, where it is small enough to be shown; else
    there is its `size`.
    """

    snapshot: RunSnapshot
    entries: Sequence[JournalEntry]
    nodes: Sequence[Mapping[str, Any]] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    children: Mapping[Status, int] = field(default_factory=dict)
    result: tuple[Any] | None = None
    size: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.snapshot.status in FINISHED

    @property
    def steps(self) -> tuple[StepStanding, ...]:
        """Its nodes."""
        return standings(self.snapshot, self.entries, self.nodes, self.tallies)


class Watch:
    """Looks at a run again and again; what has not changed is not read again.

    `with_results` reads the results of nodes too, which only JSON shows.
    """

    def __init__(self, durable: Durable, run: Run, *, with_results: bool) -> None:
        self._database = durable.database
        self._run_id = run.id
        self._with_results = with_results
        self._glimpse: Glimpse | None = None
        self._seen: Seen | None = None

    def look(self) -> Seen:
        """How the run stands. Raises `RunNotFound`."""
        with self._database.snapshot() as connection:
            glimpse = overview.glimpse(connection, self._run_id)
            if glimpse is None:
                raise RunNotFound(self._run_id)
            if self._seen is None or glimpse != self._glimpse:
                self._seen = self._read(connection, glimpse)
                self._glimpse = glimpse
        return self._seen

    def _read(self, connection: Connection, glimpse: Glimpse) -> Seen:
        snapshot = views.snapshot(connection, self._run_id, results=self._with_results)
        if snapshot is None:
            raise RunNotFound(self._run_id)
        result, size = None, 0
        if glimpse.status is Status.COMPLETED and not self._with_results:
            size = results.size_of_run(connection, self._run_id)
            if size <= SHOWN:
                result = (results.of_child(connection, self._run_id),)
        nodes = nodes_of(connection, snapshot)
        counted = counted_of(nodes)
        return Seen(
            snapshot,
            overview.entries(connection, self._run_id, counted),
            nodes,
            overview.tallies(connection, self._run_id, counted),
            glimpse.children,
            result,
            size,
        )


def nodes_of(connection: Connection, snapshot: RunSnapshot) -> Sequence[Mapping[str, Any]]:
    """The nodes of the run's plan."""
    plan = overview.plan(connection, snapshot.workflow, snapshot.version)
    nodes: Sequence[Mapping[str, Any]] = plan["nodes"] if plan else []
    return nodes


def counted_of(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of which the parts are counted and not listed."""
    return [node["name"] for node in nodes if node["kind"] in COUNTED]


def look(durable: Durable, run: Run, *, with_results: bool) -> Seen:
    """One look. Raises `RunNotFound`."""
    return Watch(durable, run, with_results=with_results).look()


def document_of(seen: Seen) -> dict[str, object]:
    """A run as JSON: its snapshot, how each node stands, and its children by status."""
    steps = seen.steps
    return {
        **fields_of(seen.snapshot),
        "awaiting_signal": seen.snapshot.awaiting_signal,
        "states": {step.name: step.state.value for step in steps},
        "nodes": [_node_document(step) for step in steps],
        "children_by_status": {status.value: n for status, n in seen.children.items()},
    }


def _node_document(step: StepStanding) -> dict[str, object]:
    """A node without what the snapshot says of it already."""
    left_out = ("units", "progress", "parts", "forked")
    facts = {name: value for name, value in fields_of(step).items() if name not in left_out}
    facts["branches"] = {part.name: part.state.value for part in step.parts}
    return facts
