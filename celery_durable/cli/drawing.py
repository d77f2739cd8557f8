"""A run as `show` draws it: what it is, its steps, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from celery_durable.cli.document import as_json
from celery_durable.cli.formatting import coarse, one_line, size, span, why
from celery_durable.cli.node_notes import below, note
from celery_durable.cli.output import (
    Form,
    Output,
    Row,
    Rows,
    aligned,
    status_text,
    workflow_text,
)
from celery_durable.cli.run_view import Seen
from celery_durable.cli.steps import IN_HAND, State, StepStanding
from celery_durable.core.names import part_of
from celery_durable.core.status import Status
from celery_durable.errors import ErrorRecord
from celery_durable.store.read.views import RunSnapshot, RunSummary

MARKS = {
    State.PENDING: ("·", "dim"),
    State.CURRENT: ("▶", "cyan"),
    State.WAITING: ("◔", "yellow"),
    State.COMPLETED: ("✓", "green"),
    State.FAILED: ("✗", "bold red"),
    State.CANCELLED: ("■", "yellow"),
    State.COMPENSATING: ("↶", "magenta"),
    State.COMPENSATED: ("↶", "green"),
    State.COMPENSATION_FAILED: ("✗", "bold red"),
    State.NOT_REACHED: ("·", "dim"),
}

LONGEST_RESULT = 300
"""Characters of a result that are shown; `--json` has it whole."""

CHILDREN = 10
"""Child runs that are shown; above that they are counted too. `durable list --parent` has all."""


def drawn(output: Output, seen: Seen, now: datetime, room: int | None = None) -> RenderableType:
    """The picture for a terminal; with `room`, of at most so many steps around the one in hand."""
    shown, above, after = around(seen.steps, room)
    parts: list[RenderableType] = [_grid(_facts(output, seen, now)), Text()]
    if above:
        parts.append(Text(f"  … {above} before", "dim"))
    parts.append(_grid(_step_rows(output, shown, now, is_short=room is not None), indent=2))
    if after:
        parts.append(Text(f"  … {after} after", "dim"))
    for rows in (_children(seen, now), list(_errors(seen.snapshot))):
        if rows:
            parts += [Text(), _grid(rows)]
    return Group(*parts)


def written(output: Output, seen: Seen, now: datetime) -> str:
    """The same for a pipe."""
    # Words say there what the marks say on a terminal.
    steps = [row[1:] for row in _step_rows(output, seen.steps, now)]
    facts, children = _facts(output, seen, now), _children(seen, now)
    blocks = [facts, steps, children, list(_errors(seen.snapshot))]
    return "\n\n".join(text for rows in blocks if (text := aligned(rows)))


def around(
    steps: Sequence[StepStanding], room: int | None
) -> tuple[Sequence[StepStanding], int, int]:
    """At most `room` steps, around the one in hand, and how many are left out on each side."""
    if room is None or len(steps) <= room:
        return steps, 0, 0
    in_hand = next((i for i, step in enumerate(steps) if step.state in IN_HAND), 0)
    first = min(max(in_hand - room // 2, 0), len(steps) - room)
    return steps[first : first + room], first, len(steps) - first - room


def _grid(rows: Rows, indent: int = 0) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for row in rows:
        grid.add_row(*(Text(" " * indent).append_text(row[0]), *row[1:]))
    return grid


def _facts(output: Output, seen: Seen, now: datetime) -> Rows:
    snapshot = seen.snapshot
    waited = (snapshot.started_at or now) - snapshot.created_at
    is_same = snapshot.started_at is not None and waited < timedelta(seconds=1)
    facts = [
        ("run", Text(str(snapshot.run_id))),
        ("workflow", workflow_text(snapshot.workflow, snapshot.version)),
        ("status", status_text(snapshot.status).append_text(_count(snapshot))),
        ("key", Text(one_line(snapshot.key or ""))),
        ("tags", Text(one_line(" ".join(f"{k}={v}" for k, v in snapshot.tags.items())))),
        ("parent", Text(str(snapshot.parent_run_id or ""))),
        ("created", _since(output, None if is_same else snapshot.created_at, now)),
        ("started", _since(output, snapshot.started_at, now)),
        ("cancel", _cancel(output, snapshot, now)),
        ("finished", _since(output, snapshot.finished_at, now)),
        (
            "took" if snapshot.finished_at else "elapsed",
            Text(elapsed(snapshot.started_at, snapshot.finished_at, now)),
        ),
    ]
    if snapshot.status is Status.COMPLETED:
        facts.append(("result", _result(seen)))
    return [(Text(label, "dim"), fact) for label, fact in facts if fact.plain]


def _result(seen: Seen) -> Text:
    if seen.result is None:
        return Text(f"{size(seen.size)} as it is stored; --json has it")
    return Text(_cut(one_line(as_json(seen.result[0], indent=None))))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_RESULT else f"{text[:LONGEST_RESULT]}…"


def _cancel(output: Output, snapshot: RunSnapshot, now: datetime) -> Text:
    """When it was asked to end, until it has."""
    if snapshot.cancel_requested_at is None or snapshot.finished_at is not None:
        return Text()
    said = Text("asked ").append_text(_since(output, snapshot.cancel_requested_at, now))
    reason = f": {one_line(snapshot.cancel_reason)}" if snapshot.cancel_reason else ""
    return said.append(reason)


def _count(snapshot: RunSnapshot) -> Text:
    if not snapshot.total_steps:
        return Text()
    return Text(f", {snapshot.completed_steps} of {snapshot.total_steps} steps completed", "dim")


def _since(output: Output, at: datetime | None, now: datetime) -> Text:
    if at is None or output.form is not Form.TERMINAL:
        return output.time(at)
    return output.time(at).append(f"  {coarse(now - at)} ago", "dim")


def elapsed(started_at: datetime | None, finished_at: datetime | None, now: datetime) -> str:
    """How long a run has taken, so far or in all; nothing for one that has not started."""
    return span((finished_at or now) - started_at) if started_at else ""


def _step_rows(
    output: Output, steps: Sequence[StepStanding], now: datetime, *, is_short: bool = False
) -> Rows:
    """A line for each node, with those of its branches below it; `is_short`: of nodes in hand."""
    rows: list[Row] = []
    for step in steps:
        rows.append(_step_row(output, step, now))
        if is_short and step.state not in IN_HAND:
            continue
        said = dict(below(step, output, now))
        if any(part.state not in NOT_BEGUN for part in step.parts):
            own = [said.pop(part_of(step.name, part.name), None) for part in step.parts]
            rows += [
                _step_row(output, part, now, indent="  ", said=text)
                for part, text in zip(step.parts, own, strict=True)
            ]
        rows += [_line_below(unit, text) for unit, text in said.items()]
    return rows


NOT_BEGUN = (State.PENDING, State.NOT_REACHED)


def _step_row(
    output: Output, step: StepStanding, now: datetime, *, indent: str = "", said: Text | None = None
) -> Row:
    """`said` is what a branch has to say."""
    mark, style = MARKS[step.state]
    is_dim = style == "dim"
    name = indent + one_line(step.name)
    beside = note(step, output, now)
    return (
        Text(mark, style),
        Text(name, "dim" if is_dim else "bold" if step.state in IN_HAND else ""),
        Text(step.state.value, style),
        Text(span(step.took) if step.took is not None else "", "dim", justify="right"),
        Text("  ").join(text for text in (beside, said) if text),
    )


def _line_below(unit: str, said: Text) -> Row:
    return Text(), Text(f"  {one_line(unit)}", "dim"), Text(), Text(), said


def _children(seen: Seen, now: datetime) -> Rows:
    """Of many children how they stand, and those first that have not completed."""
    known = seen.snapshot.children
    shown = sorted(known, key=lambda child: child.status is Status.COMPLETED)[:CHILDREN]
    rows = [_child_row(child, now) for child in shown]
    total = sum(seen.children.values())
    if total <= CHILDREN:
        return rows
    counts = ", ".join(f"{count} {status}" for status, count in seen.children.items())
    return [(Text("children", "dim"), Text(str(total)), Text(counts)), *rows]


def _child_row(child: RunSummary, now: datetime) -> Row:
    return (
        Text("child", "dim"),
        Text(str(child.run_id)),
        workflow_text(child.workflow, child.version),
        status_text(child.status),
        Text(elapsed(child.started_at, child.finished_at, now), "dim"),
    )


def _errors(snapshot: RunSnapshot) -> Iterator[Row]:
    if snapshot.error is not None:
        yield (
            Text("error", "bold red"),
            Text(one_line(snapshot.error.unit or "run")),
            _why(snapshot.error),
        )
    for unit, error in snapshot.compensation_errors.items():
        yield Text("error", "bold red"), Text(one_line(unit)), _why(error)


def _why(error: ErrorRecord) -> Text:
    return Text(why(error))
