"""A run as `show` draws it: facts about the run, its nodes, its children and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from celery_durable.cli.node_notes import node_note, unit_notes
from celery_durable.cli.output import Form, Output, Row, Rows, aligned, status_text, workflow_text
from celery_durable.core.names import subunit_of
from celery_durable.core.status import Status
from celery_durable.store.read.listing import RunSummary
from celery_durable.store.read.views import RunSnapshot
from celery_durable.view.document import as_json
from celery_durable.view.formatting import (
    coarse,
    elapsed,
    error_line,
    one_line,
    shortened,
    size,
    span,
)
from celery_durable.view.nodes import ACTIVE, NOT_BEGUN, NodeState, NodeView
from celery_durable.view.run import RunView

SYMBOLS = {
    NodeState.PENDING: ("·", "dim"),
    NodeState.CURRENT: ("▶", "cyan"),
    NodeState.WAITING: ("◔", "yellow"),
    NodeState.PAUSED: ("‖", "yellow"),
    NodeState.COMPLETED: ("✓", "green"),
    NodeState.FAILED: ("✗", "bold red"),
    NodeState.CANCELLED: ("■", "yellow"),
    NodeState.COMPENSATING: ("↶", "magenta"),
    NodeState.COMPENSATED: ("↶", "green"),
    NodeState.COMPENSATION_FAILED: ("✗", "bold red"),
    NodeState.NOT_REACHED: ("·", "dim"),
}
"""The symbol of a state on a terminal, and the style of both."""

LONGEST_RESULT = 300
"""Characters of a result that are shown; `--json` has it whole."""

MOST_CHILDREN = 10
"""Child runs that are shown; above that they are counted too. `durable list --parent` has all."""


def picture(
    output: Output, view: RunView, now: datetime, most_nodes: int | None = None
) -> RenderableType:
    """The run for a terminal; with `most_nodes` only so many, around the one where it stands."""
    nodes, before, after = _nodes_around_current(view.nodes, most_nodes)
    parts: list[RenderableType] = [_grid(_facts(output, view, now)), Text()]
    if before:
        parts.append(Text(f"  … {before} before", "dim"))
    rows = _node_rows(output, nodes, now, only_active=most_nodes is not None)
    parts.append(_grid(rows, indent=2))
    if after:
        parts.append(Text(f"  … {after} after", "dim"))
    for rows in (_children(view, now), _errors(view.snapshot)):
        if rows:
            parts += [Text(), _grid(rows)]
    return Group(*parts)


def plain_text(output: Output, view: RunView, now: datetime) -> str:
    """The run for a pipe: words only, no symbols."""
    nodes = [cells for _, *cells in _node_rows(output, view.nodes, now)]
    facts, children = _facts(output, view, now), _children(view, now)
    blocks = [facts, nodes, children, _errors(view.snapshot)]
    return "\n\n".join(text for rows in blocks if (text := aligned(rows)))


def _nodes_around_current(
    nodes: Sequence[NodeView], most: int | None
) -> tuple[Sequence[NodeView], int, int]:
    """At most so many nodes, and how many are left out before and after them."""
    if most is None or len(nodes) <= most:
        return nodes, 0, 0
    current = next((i for i, node in enumerate(nodes) if node.state in ACTIVE), 0)
    first = min(max(current - most // 2, 0), len(nodes) - most)
    return nodes[first : first + most], first, len(nodes) - first - most


def _grid(rows: Rows, indent: int = 0) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for first, *others in rows:
        grid.add_row(Text(" " * indent).append_text(first), *others)
    return grid


def _facts(output: Output, view: RunView, now: datetime) -> Rows:
    snapshot = view.snapshot
    waited = (snapshot.started_at or now) - snapshot.created_at
    started_at_once = snapshot.started_at is not None and waited < timedelta(seconds=1)
    facts = [
        ("run", Text(str(snapshot.run_id))),
        ("workflow", workflow_text(snapshot.workflow, snapshot.version)),
        ("status", status_text(snapshot.status).append_text(_completed_steps(snapshot))),
        ("key", Text(one_line(snapshot.key or ""))),
        ("tags", Text(one_line(" ".join(f"{k}={v}" for k, v in snapshot.tags.items())))),
        ("input", Text() if view.input == (None,) else _payload(view.input, view.input_size)),
        ("parent", Text(str(snapshot.parent_run_id or ""))),
        ("in place of", Text(str(snapshot.forked_from or ""))),
        ("retried as", Text(str(snapshot.retried_as or ""))),
        ("created", _time_and_age(output, None if started_at_once else snapshot.created_at, now)),
        ("started", _time_and_age(output, snapshot.started_at, now)),
        ("expires", _deadline(output, snapshot, snapshot.expires_at, now)),
        ("timeout", _deadline(output, snapshot, snapshot.times_out_at, now)),
        ("cancel", _cancel_request(output, snapshot, now)),
        ("finished", _time_and_age(output, snapshot.finished_at, now)),
        (
            "took" if snapshot.finished_at else "elapsed",
            Text(elapsed(snapshot.started_at, snapshot.finished_at, now)),
        ),
    ]
    if snapshot.status is Status.COMPLETED:
        facts.append(("result", _payload(view.result, view.size)))
    return [(Text(label, "dim"), fact) for label, fact in facts if fact.plain]


def _payload(value: tuple[Any] | None, stored: int) -> Text:
    """The beginning of an input or a result; its size where it is too large to be read."""
    if value is None:
        return Text(f"{size(stored)} as it is stored; --json has it")
    return Text(shortened(one_line(as_json(value[0], indent=None)), LONGEST_RESULT))


def _cancel_request(output: Output, snapshot: RunSnapshot, now: datetime) -> Text:
    """When an unfinished run was asked to end, and why."""
    if snapshot.cancel_requested_at is None or snapshot.finished_at is not None:
        return Text()
    text = Text("asked ").append_text(_time_and_age(output, snapshot.cancel_requested_at, now))
    reason = f": {one_line(snapshot.cancel_reason)}" if snapshot.cancel_reason else ""
    return text.append(reason)


def _deadline(output: Output, snapshot: RunSnapshot, at: datetime | None, now: datetime) -> Text:
    """A time that an unfinished run has, and on a terminal how far off it is."""
    if at is None or snapshot.finished_at is not None:
        return Text()
    text = output.time(at)
    if output.form is Form.TERMINAL and at > now:
        text.append(f"  in {coarse(at - now)}", "dim")
    return text


def _completed_steps(snapshot: RunSnapshot) -> Text:
    if not snapshot.total_steps:
        return Text()
    return Text(f", {snapshot.completed_steps} of {snapshot.total_steps} steps completed", "dim")


def _time_and_age(output: Output, at: datetime | None, now: datetime) -> Text:
    """A time, and on a terminal how long ago it is; empty for None."""
    if at is None or output.form is not Form.TERMINAL:
        return output.time(at)
    return output.time(at).append(f"  {coarse(now - at)} ago", "dim")


def _node_rows(
    output: Output, nodes: Sequence[NodeView], now: datetime, *, only_active: bool = False
) -> Rows:
    """A row for each node, below it rows for branches and units; `only_active`: of active nodes."""
    rows: list[Row] = []
    for node in nodes:
        rows.append(_node_row(output, node, now))
        if only_active and node.state not in ACTIVE:
            continue
        notes = unit_notes(node, output, now)
        if any(part.state not in NOT_BEGUN for part in node.parts):
            for part in node.parts:
                note = notes.pop(subunit_of(node.name, part.name), None)
                rows.append(_node_row(output, part, now, indent="  ", unit_note=note))
        rows += [
            (Text(), Text(f"  {one_line(unit)}", "dim"), Text(), Text(), note)
            for unit, note in notes.items()
        ]
    return rows


def _node_row(
    output: Output,
    node: NodeView,
    now: datetime,
    *,
    indent: str = "",
    unit_note: Text | None = None,
) -> Row:
    symbol, style = SYMBOLS[node.state]
    name_style = "dim" if style == "dim" else "bold" if node.state in ACTIVE else ""
    return (
        Text(symbol, style),
        Text(indent + one_line(node.name), name_style),
        Text(node.state.value, style),
        Text(span(node.took) if node.took is not None else "", "dim", justify="right"),
        Text("  ").join(note for note in (node_note(node, output, now), unit_note) if note),
    )


def _children(view: RunView, now: datetime) -> Rows:
    """The first children that have not completed, then others; above them the counts if many."""
    known = view.snapshot.children
    unfinished_first = sorted(known, key=lambda child: child.status is Status.COMPLETED)
    rows = [_child_row(child, now) for child in unfinished_first[:MOST_CHILDREN]]
    total = sum(view.children_by_status.values())
    if total <= MOST_CHILDREN:
        return rows
    counts = ", ".join(f"{count} {status}" for status, count in view.children_by_status.items())
    return [(Text("children", "dim"), Text(str(total)), Text(counts)), *rows]


def _child_row(child: RunSummary, now: datetime) -> Row:
    return (
        Text("child", "dim"),
        Text(str(child.run_id)),
        workflow_text(child.workflow, child.version),
        status_text(child.status),
        Text(elapsed(child.started_at, child.finished_at, now), "dim"),
    )


def _errors(snapshot: RunSnapshot) -> Rows:
    errors = [*snapshot.compensation_errors.items()]
    if snapshot.error is not None:
        errors.insert(0, (snapshot.error.unit or "run", snapshot.error))
    return [
        (Text("error", "bold red"), Text(one_line(unit)), Text(error_line(error)))
        for unit, error in errors
    ]
