"""Reads what a picture of a run shows, and no more than that: results only where they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from celery_durable.core.status import FINISHED, Status
from celery_durable.durable import Durable
from celery_durable.errors import RunNotFound
from celery_durable.run import Run
from celery_durable.store.connection import Connection
from celery_durable.store.read import overview, results, views
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.overview import Glimpse, Tally
from celery_durable.store.read.views import RunSnapshot
from celery_durable.view.document import fields_of
from celery_durable.view.nodes import COUNTED_KINDS, NodeView, node_views

LARGEST_RESULT = 4_000
"""Bytes, as Postgres keeps them, up to which an input or a result is read to show its beginning."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run at one moment; journal entries of items and iterations are counted, not listed.

    `input`, and the `result` of a completed run, are in a tuple where they are small enough to be
    shown; else there is their size.
    """

    snapshot: RunSnapshot
    entries: Sequence[JournalEntry]
    plan_nodes: Sequence[Mapping[str, Any]] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    children_by_status: Mapping[Status, int] = field(default_factory=dict)
    result: tuple[Any] | None = None
    size: int = 0
    input: tuple[Any] | None = None
    input_size: int = 0

    @property
    def has_ended(self) -> bool:
        """True if the run has ended."""
        return self.snapshot.status in FINISHED

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """The state of each node."""
        return node_views(self.snapshot, self.entries, self.plan_nodes, self.tallies)


class RunReader:
    """Reads a run any number of times; does not read again what has not changed.

    `with_results` reads the results of nodes too, which only JSON shows.
    """

    def __init__(self, durable: Durable, run: Run, *, with_results: bool) -> None:
        self._database = durable.database
        self._run_id = run.id
        self._with_results = with_results
        self._glimpse: Glimpse | None = None
        self._view: RunView | None = None

    def read(self) -> RunView:
        """The run at this moment. Raises `RunNotFound`."""
        with self._database.read_only() as connection:
            glimpse = overview.glimpse(connection, self._run_id)
            if glimpse is None:
                raise RunNotFound(self._run_id)
            if self._view is None or glimpse != self._glimpse:
                self._view = view_of(
                    connection, self._run_id, glimpse, with_results=self._with_results
                )
                self._glimpse = glimpse
        return self._view


def view_of(
    connection: Connection, run_id: UUID, glimpse: Glimpse, *, with_results: bool
) -> RunView:
    """The run as it stands at the moment of `glimpse`. Raises `RunNotFound`."""
    snapshot = views.snapshot(connection, run_id, results=with_results)
    if snapshot is None:
        raise RunNotFound(run_id)
    result, size = None, 0
    if glimpse.status is Status.COMPLETED and not with_results:
        size = results.size_of_run(connection, run_id)
        if size <= LARGEST_RESULT:
            result = (results.of_child(connection, run_id),)
    given, input_size = views.input_of(connection, run_id, LARGEST_RESULT)
    nodes = plan_nodes(connection, snapshot)
    counted = counted_nodes(nodes)
    return RunView(
        snapshot,
        overview.entries(connection, run_id, counted),
        nodes,
        overview.tallies(connection, run_id, counted),
        glimpse.children,
        result,
        size,
        given,
        input_size,
    )


def read_run(durable: Durable, run: Run, *, with_results: bool) -> RunView:
    """Read a run once. Raises `RunNotFound`."""
    return RunReader(durable, run, with_results=with_results).read()


def plan_nodes(connection: Connection, snapshot: RunSnapshot) -> Sequence[Mapping[str, Any]]:
    """The nodes of the run's stored plan."""
    plan = overview.plan(connection, snapshot.workflow, snapshot.version)
    nodes: Sequence[Mapping[str, Any]] = plan["nodes"] if plan else []
    return nodes


def counted_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the nodes whose items or iterations are counted, not listed."""
    return [node["name"] for node in nodes if node["kind"] in COUNTED_KINDS]


def document_of(view: RunView) -> dict[str, object]:
    """A run as JSON: its snapshot, the state of each node, and its children by status."""
    nodes = view.nodes
    return {
        **fields_of(view.snapshot),
        "awaiting_signal": view.snapshot.awaiting_signal,
        "states": {node.name: node.state.value for node in nodes},
        "nodes": [_node_document(node) for node in nodes],
        "children_by_status": {
            status.value: count for status, count in view.children_by_status.items()
        },
    }


def _node_document(node: NodeView) -> dict[str, object]:
    """A node without what the snapshot says of it already."""
    left_out = ("units", "progress", "parts", "forked")
    facts = {name: value for name, value in fields_of(node).items() if name not in left_out}
    facts["branches"] = {part.name: part.state.value for part in node.parts}
    return facts
