"""Puts the rows of a timeline together: node by node as they began, parts below their node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from celery_durable.core.names import SEPARATOR, choice_of, compensated_by
from celery_durable.store.read.history import JournalEntry
from celery_durable.view.formatting import nonzero, plural
from celery_durable.view.nodes import NodeState, NodeView
from celery_durable.view.picture import notes
from celery_durable.view.picture.bars import BarRow, Look, Segment, Told, is_undo
from celery_durable.view.picture.text import plain
from celery_durable.view.picture.unit_rows import current_row, ended_row

FORKS = frozenset({"map", "parallel"})

NOT_EXECUTED = "not due, queued or paused, or begun by a worker that was lost"
"""What may have been between what a unit waited for and what is recorded of it."""


def rows_of(told: Told) -> list[BarRow]:
    """Every row in the order of beginning, the parts of a node below it."""
    names = [*told.nodes, *(one.node for one in told.entries), *(one.node for one in told.units)]
    nodes = (_group(told, name) for name in dict.fromkeys(names))
    undone = ([row] for row in (*_undone(told), *_undone_together(told)))
    groups = [group for group in (*nodes, *undone) if group]
    groups.sort(key=lambda group: min(row.begin or told.now for row in group))
    return [row for group in groups for row in group]


def _group(told: Told, name: str) -> list[BarRow]:
    """The row of a node, and those of its parts; nothing of a node that has not begun."""
    view = told.nodes.get(name)
    kind = view.kind if view is not None else "step"
    own = _own(told, name, kind)
    if (name, False) in told.densities:
        return [_folded(told, name, own)]
    parts = sorted(_parts(told, name), key=lambda row: row.begin or told.now)
    if kind in FORKS:
        parts = [*_queued_parts(own, parts)]
    match kind:
        case "loop" if parts:
            return [_loop(name, view, [_queued(told, row) for row in parts])]
        case _ if kind in FORKS and (own is not None or parts):
            return [_fork(told, name, own, parts), *parts]
        case _:
            return [own] if own is not None else parts


def _own(told: Told, name: str, kind: str) -> BarRow | None:
    """The row of the unit that is called like its node; of a route the choice comes before it."""
    chosen = _row_of(told, choice_of(name), kind, plain(name)) if kind == "route" else None
    row = _row_of(told, name, kind, plain(name))
    found = [_queued(told, one) for one in (chosen, row) if one is not None]
    segments = tuple(segment for one in found for segment in one.segments)
    return replace(found[-1], segments=segments) if found else None


def _row_of(told: Told, unit: str, kind: str, label: str) -> BarRow | None:
    """The row of a unit that has ended, or that the run stands at."""
    ended = told.entry_of.get(unit)
    if ended is not None:
        return ended_row(told, ended, kind, label)
    current = told.unit_of.get(unit)
    return None if current is None else current_row(told, current, label)


def _queued(told: Told, row: BarRow) -> BarRow:
    """The row with the time from when its unit could have begun.

    That is when the units before it ended, or the run was created. Of units that one worker
    executes at a stretch, the next may begin before the one before it is recorded.
    """
    return _since(row, told.ready_at(row.segments[0].begin))


def _queued_parts(own: BarRow | None, parts: Sequence[BarRow]) -> Iterator[BarRow]:
    """Yield the rows of a fork's parts, each with the time from the end of another part on.

    The first of them have waited since the node forked. When others got a place is not recorded.
    """
    forked_at = own.begin if own is not None else None
    ends = [part.segments[-1].end for part in parts]
    for part in parts:
        begin = part.segments[0].begin
        before = [end for end in ends if end is not None and end <= begin]
        yield part if forked_at is None else _since(part, max((forked_at, *before)))


def _since(row: BarRow, ready_at: datetime) -> BarRow:
    begin = row.segments[0].begin
    if ready_at >= begin:
        return row
    before = Segment(ready_at, begin, Look.GAP, NodeState.PENDING, NOT_EXECUTED)
    return replace(row, segments=(before, *row.segments))


def _parts(told: Told, name: str) -> Iterator[BarRow]:
    """Yield the rows of branches, items or iterations of a node."""
    for part in told.parts_of.get(name, ()):
        label = _label(part.unit)
        if isinstance(part, JournalEntry):
            row = ended_row(told, part, "step", label)
        else:
            row = current_row(told, part, label)
        yield replace(row, depth=1)


def _label(unit: str) -> str:
    """A part without its node, an item by its number: `fraud`, `#17`."""
    part = unit.partition(SEPARATOR)[2]
    return f"{SEPARATOR}{part}" if part.isdecimal() else plain(part)


def _fork(told: Told, name: str, own: BarRow | None, parts: Sequence[BarRow]) -> BarRow:
    """The row above the branches or the items of a node."""
    view = told.nodes[name]
    head = own or BarRow(plain(name), view.state, (_around(parts, view.state),))
    is_open = name in told.opened
    fold = name if is_open and view.kind == "map" else None
    *before, last = head.segments
    return replace(
        head,
        state=view.state,
        segments=(*before, replace(last, state=view.state)),
        is_queued=notes.is_queued(view, name),
        fold=fold,
        is_open=is_open,
    )


def _around(parts: Sequence[BarRow], state: NodeState) -> Segment:
    """The time in which the parts were executed, of a node without an entry of its own."""
    segments = [segment for part in parts for segment in part.segments]
    begins = [part.begin for part in parts if part.begin is not None]
    ends = [segment.end for segment in segments]
    last = None if None in ends else max(end for end in ends if end is not None)
    return Segment(min(begins), last, Look.SPAN, state)


def _loop(name: str, view: NodeView | None, parts: Sequence[BarRow]) -> BarRow:
    """One row: the iterations follow one another."""
    segments = tuple(segment for part in parts for segment in part.segments)
    state = view.state if view is not None else parts[-1].state
    note = plural(len(parts), "iteration")
    return BarRow(plain(name), state, segments, note=note, run=parts[-1].run)


def _folded(told: Told, name: str, own: BarRow | None) -> BarRow:
    """One row for all parts of a node: how many ended when."""
    view, density = told.nodes.get(name), told.densities[name, False]
    counts = [str(density.total), *nonzero({"failed": sum(density.failed.values())})]
    if view is not None and view.forked is not None:
        counts = notes.fork_counts(view, view.forked)
    return BarRow(
        plain(name),
        view.state if view is not None else NodeState.COMPLETED,
        () if own is None else own.segments,
        note=", ".join(counts),
        is_queued=view is not None and notes.is_queued(view, name),
        density=density,
        fold=name,
    )


def _undone(told: Told) -> Iterator[BarRow]:
    """Yield the rows of compensations."""
    for entry in told.entries:
        if is_undo(entry):
            yield _queued(told, ended_row(told, entry, "step", _undo_label(entry.unit)))
    for unit in told.units:
        if is_undo(unit):
            yield _queued(told, current_row(told, unit, _undo_label(unit.unit)))


def _undo_label(unit: str) -> str:
    return plain(f"undo {compensated_by(unit)}")


def _undone_together(told: Told) -> Iterator[BarRow]:
    """Yield the rows of the compensations of nodes whose parts are folded."""
    for (name, undoes), density in told.densities.items():
        if undoes:
            failed = sum(density.failed.values())
            state = NodeState.COMPENSATION_FAILED if failed else NodeState.COMPENSATED
            counts = nonzero({"undone": density.total - failed, "not undone": failed})
            note, label = ", ".join(counts), plain(f"undo {name}")
            yield BarRow(label, state, note=note, density=density, is_undo=True)
