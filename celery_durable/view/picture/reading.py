"""Reads what the pictures of a run show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from celery_durable.durable import Durable
from celery_durable.errors import RunNotFound
from celery_durable.store.connection import Connection
from celery_durable.store.read import folded, overview, spans
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.nodes import COUNTED_KINDS, NodeView
from celery_durable.view.picture.bars import Told
from celery_durable.view.picture.chart import Shown, child_runs, nodes_of
from celery_durable.view.picture.rows import rows_of
from celery_durable.view.picture.timeline import MOST_ROWS, Timeline
from celery_durable.view.run import RunView, read_run

MOST_OPENED = 12
"""Child runs that are open in a picture at the same time; those after them stay closed."""

MOST_PARTS = 40
"""Branches, items or iterations of one node that are listed without being asked for."""

MOST_TRYING = 100
"""Units that are tried again whose failed attempts are read."""


def shown_of(
    durable: Durable, view: RunView, now: datetime, opened: AbstractSet[str] = frozenset()
) -> Shown:
    """What the graph of a run shows: with each child run in its place that is `opened`, by id."""
    left = [MOST_OPENED]
    return _shown(durable, view, now, opened, left, is_child=False)


def _shown(
    durable: Durable,
    view: RunView,
    now: datetime,
    opened: AbstractSet[str],
    left: list[int],
    *,
    is_child: bool,
) -> Shown:
    snapshot = view.snapshot
    with durable.database.autocommit() as connection:
        plan = overview.plan(connection, snapshot.workflow, snapshot.version)
    shown = Shown(
        plan or {"workflow": snapshot.workflow, "version": snapshot.version, "nodes": []},
        now,
        {node.name: node for node in view.nodes},
        snapshot.status,
        snapshot.run_id,
        opened,
        is_child=is_child,
    )
    children: dict[UUID, Shown] = {}
    for run_id in child_runs(nodes_of(shown)):
        if str(run_id) not in opened or left[0] == 0:
            continue
        left[0] -= 1
        try:
            child = read_run(durable, durable.run(run_id), with_results=False)
        except RunNotFound:  # it has been pruned
            continue
        children[run_id] = _shown(durable, child, now, opened, left, is_child=True)
    return replace(shown, children=children)


def timeline_of(
    durable: Durable,
    view: RunView,
    now: datetime,
    opened: AbstractSet[str] = frozenset(),
    first: int = 0,
) -> tuple[Timeline, int]:
    """The timeline of a run from its row `first` on, and how many rows there are.

    The parts of a node are folded where there is not room for all; of those that are `opened`
    the first to end are listed.
    """
    snapshot = view.snapshot
    nodes = {node.name: node for node in view.nodes}
    listed, together = _listed_and_folded(nodes.values(), opened)
    begin, end = snapshot.created_at, max(snapshot.finished_at or now, snapshot.created_at)
    with durable.database.read_only() as connection:
        counted = [name for name in listed if nodes[name].kind in COUNTED_KINDS]
        parts = spans.parts(connection, snapshot.run_id, counted, MOST_ROWS) if counted else []
        densities = spans.densities(connection, snapshot.run_id, together, begin, end)
        trying = _trying(connection, snapshot.run_id)
    told = Told(
        now,
        snapshot.created_at,
        nodes,
        [*(entry for entry in view.entries if _is_told(entry, together)), *parts],
        [unit for unit in snapshot.units if _is_told(unit, together)],
        trying,
        densities,
        opened,
        snapshot.status,
    )
    rows = rows_of(told)
    title = f"Timeline of a run of {snapshot.workflow}, {snapshot.status.value}"
    page = rows[first : first + MOST_ROWS]
    return Timeline(title, begin, end, page, snapshot.finished_at is None), len(rows)


def _is_told(one: JournalEntry | UnitInHand, together: AbstractSet[str]) -> bool:
    """False for a part of a node whose parts are counted."""
    return one.unit == one.node or one.node not in together


def _trying(connection: Connection, run_id: UUID) -> Mapping[str, folded.Trying]:
    return {one.unit: one for one in folded.trying(connection, run_id, MOST_TRYING)}


def _listed_and_folded(
    nodes: Collection[NodeView], opened: AbstractSet[str]
) -> tuple[set[str], set[str]]:
    """The nodes whose parts are listed, and those whose parts are counted.

    Those with the fewest parts are listed first, as long as there is room.
    """
    counts = {node.name: _parts(node) for node in nodes if node.kind in ("map", "loop", "parallel")}
    room = MOST_ROWS - len(nodes)
    listed, together = set(), set()
    for name in sorted(counts, key=lambda name: (name not in opened, counts[name])):
        if name in opened or counts[name] <= min(room, MOST_PARTS):
            listed.add(name)
            room -= min(counts[name], MOST_ROWS)
        elif counts[name]:
            together.add(name)
    return listed, together


def _parts(node: NodeView) -> int:
    if node.tally is not None:
        return node.tally.ended + node.tally.undone + node.tally.undo_failed
    return len(node.parts)
