"""Puts the rows of a timeline together: node by node as they began, parts below their node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from celery_durable.core.names import SEPARATOR, choice_of, compensated_by
from celery_durable.store.read.history import JournalEntry
from celery_durable.view.formatting import nonzero, plural
from celery_durable.view.nodes import NodeState, NodeView
from celery_durable.view.picture.bars import BarRow, Look, Segment, Told, is_undo
from celery_durable.view.picture.text import plain
from celery_durable.view.picture.unit_rows import current_row, ended_row


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
    match kind:
        case "loop" if parts:
            return [_loop(name, view, parts)]
        case "map" | "parallel" if own is not None or parts:
            return [_fork(told, name, own, parts), *parts]
        case _:
            return [own] if own is not None else parts


def _own(told: Told, name: str, kind: str) -> BarRow | None:
    """The row of the unit that is called like its node; of a route the choice comes before it."""
    chosen = _row_of(told, choice_of(name), kind, plain(name)) if kind == "route" else None
    row = _row_of(told, name, kind, plain(name))
    if row is None or chosen is None:
        return row or chosen
    return replace(row, segments=(*chosen.segments, *row.segments))


def _row_of(told: Told, unit: str, kind: str, label: str) -> BarRow | None:
    """The row of a unit that has ended, or that the run stands at."""
    ended = told.entry_of.get(unit)
    if ended is not None:
        return ended_row(told, ended, kind, label)
    current = told.unit_of.get(unit)
    return None if current is None else current_row(told, current, label)


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
    return replace(head, state=view.state, fold=fold, is_open=is_open)


def _around(parts: Sequence[BarRow], state: NodeState) -> Segment:
    """The time in which the parts were executed, of a node without an entry of its own."""
    segments = [segment for part in parts for segment in part.segments]
    ends = [segment.end for segment in segments]
    last = None if None in ends else max(end for end in ends if end is not None)
    return Segment(min(segment.begin for segment in segments), last, Look.SPAN, state)


def _loop(name: str, view: NodeView | None, parts: Sequence[BarRow]) -> BarRow:
    """One row: the iterations follow one another."""
    segments = tuple(segment for part in parts for segment in part.segments)
    state = view.state if view is not None else parts[-1].state
    note = plural(len(parts), "iteration")
    return BarRow(plain(name), state, segments, note=note, run=parts[-1].run)


def _folded(told: Told, name: str, own: BarRow | None) -> BarRow:
    """One row for all parts of a node: how many ended when."""
    view, density = told.nodes.get(name), told.densities[name, False]
    forked = view.forked if view is not None else None
    counts = {
        "failed": sum(density.failed.values()),
        "executing": forked.executing if forked else 0,
        "waiting": forked.waiting if forked else 0,
    }
    of = f" of {forked.total}" if forked else ""
    return BarRow(
        plain(name),
        view.state if view is not None else NodeState.COMPLETED,
        () if own is None else own.segments,
        note=", ".join((f"{density.total}{of}", *nonzero(counts))),
        density=density,
        fold=name,
    )


def _undone(told: Told) -> Iterator[BarRow]:
    """Yield the rows of compensations."""
    for entry in told.entries:
        if is_undo(entry):
            yield ended_row(told, entry, "step", _undo_label(entry.unit))
    for unit in told.units:
        if is_undo(unit):
            yield current_row(told, unit, _undo_label(unit.unit))


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
