"""A run as `show` draws it: what it is, its steps, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from celery_durable.cli.document import as_json
from celery_durable.cli.output import (
    Form,
    Output,
    Row,
    Rows,
    aligned,
    status_text,
    workflow_text,
)
from celery_durable.cli.phrases import coarse, one_line, span, why
from celery_durable.cli.steps import IN_HAND, State, StepStanding, standings
from celery_durable.core.failure import ErrorRecord
from celery_durable.core.status import FINISHED, Status
from celery_durable.durable import Durable
from celery_durable.run import Run
from celery_durable.store.views import JournalEntry, RunSnapshot

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


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as it was found."""

    snapshot: RunSnapshot
    entries: Sequence[JournalEntry]

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.snapshot.status in FINISHED

    @property
    def steps(self) -> tuple[StepStanding, ...]:
        """Its steps."""
        return standings(self.snapshot, self.entries)


def look(durable: Durable, run: Run) -> Seen:
    """The snapshot first, then the journal, which therefore is never behind it."""
    snapshot = durable.status(run.id)
    return Seen(snapshot, durable.history(run.id))


def drawn(output: Output, seen: Seen, now: datetime, room: int | None = None) -> RenderableType:
    """The picture for a terminal; with `room`, of at most so many steps around the one in hand."""
    shown, above, below = around(seen.steps, room)
    parts: list[RenderableType] = [_grid(_facts(output, seen.snapshot, now)), Text()]
    if above:
        parts.append(Text(f"  … {above} before", "dim"))
    parts.append(_grid([_step_row(step, now) for step in shown], indent=2))
    if below:
        parts.append(Text(f"  … {below} after", "dim"))
    errors = list(_errors(seen.snapshot))
    if errors:
        parts += [Text(), _grid(errors)]
    return Group(*parts)


def written(output: Output, seen: Seen, now: datetime) -> str:
    """The same for a pipe."""
    # Words say there what the marks say on a terminal.
    steps = [_step_row(step, now)[1:] for step in seen.steps]
    errors = list(_errors(seen.snapshot))
    blocks = [aligned(_facts(output, seen.snapshot, now)), aligned(steps), aligned(errors)]
    return "\n\n".join(block for block in blocks if block)


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


def _facts(output: Output, snapshot: RunSnapshot, now: datetime) -> Rows:
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
        ("finished", _since(output, snapshot.finished_at, now)),
        (
            "took" if snapshot.finished_at else "elapsed",
            Text(elapsed(snapshot.started_at, snapshot.finished_at, now)),
        ),
    ]
    if snapshot.status is Status.COMPLETED:
        facts.append(("result", Text(_cut(one_line(as_json(snapshot.result, indent=None))))))
    return [(Text(label, "dim"), fact) for label, fact in facts if fact.plain]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_RESULT else f"{text[:LONGEST_RESULT]}…"


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


def _step_row(step: StepStanding, now: datetime) -> Row:
    mark, style = MARKS[step.state]
    is_dim = style == "dim"
    return (
        Text(mark, style),
        Text(one_line(step.name), "dim" if is_dim else "bold" if step.state in IN_HAND else ""),
        Text(step.state.value, style),
        Text(span(step.took) if step.took is not None else "", "dim", justify="right"),
        _note(step, now),
    )


def _note(step: StepStanding, now: datetime) -> Text:
    """Which attempt, when the next, and the error."""
    tries = f"attempt {step.attempt}" if step.attempt > 1 else ""
    wakes = f"in {span(step.wake_at - now)}" if step.wake_at else ""
    note = Text(" ".join(part for part in (tries, wakes) if part), "yellow" if wakes else "dim")
    if step.error is not None:
        note.append("  " if note else "").append(why(step.error), "red")
    return note


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
