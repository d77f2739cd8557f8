"""Notes on a node beside its state and below it: attempt, waits, counts, progress and error."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from rich.text import Text

from celery_durable.cli.output import Form, Output
from celery_durable.core.failure import attempt_text
from celery_durable.store.read.position import Progress
from celery_durable.store.read.units import UnitInHand
from celery_durable.view.document import as_json
from celery_durable.view.formatting import (
    coarse,
    error_line,
    nonzero,
    one_line,
    plural,
    shortened,
    span,
    utc,
)
from celery_durable.view.nodes import ACTIVE, NodeView

BAR_LENGTH = 20
"""Characters of a progress bar."""

WITH_A_TEXT = frozenset({"signal", "timer", "child", "operator"})
"""The waits of a node that `wait_text` tells of."""

MOST_UNITS = 5
"""Units of one node that have lines of their own."""

ALL_UNITS_BELOW = 90
"""Units of a node below which a snapshot surely lists all; from there on it may list only some."""

LONGEST_DETAILS = 80
"""Characters of a unit's details that are shown."""


def node_note(node: NodeView, output: Output, now: datetime) -> Text:
    """Counts, attempt, wait, progress and error of a node."""
    notes = [note for note in (_kind_note(node, output), _attempt_note(node, now)) if note]
    if not node.is_fork:
        waits = [unit for unit in node.units if unit.waits_for in WITH_A_TEXT]
        if len(waits) == 1 and node.state in ACTIVE:
            notes.append(Text(wait_text(waits[0], output, now), "yellow"))
        notes += [_progress_note(reported, output) for reported in node.progress.values()]
    if node.error is not None:
        notes.append(Text(error_line(node.error), "red"))
    return Text("  ").join(notes)


def _attempt_note(node: NodeView, now: datetime) -> Text | None:
    has_wait = any(unit.waits_for for unit in node.units)
    attempt = attempt_text(node.attempt, node.max_attempts) if node.attempt > 1 else ""
    begins = f"in {span(node.wake_at - now)}" if node.wake_at and not has_wait else ""
    text = " ".join(part for part in (attempt, begins) if part)
    return Text(text, "yellow" if begins else "dim") if text else None


def _kind_note(node: NodeView, output: Output) -> Text | None:
    """The counts of a fork or a loop, the case of a route."""
    match node.kind:
        case "map" | "parallel":
            return _fork_note(node, output)
        case "loop":
            return _loop_note(node)
        case "route" if node.branch is not None:
            return Text(f"case {one_line(node.branch)}", "dim")
        case _:
            return None


def _loop_note(node: NodeView) -> Text | None:
    """`loop  3 of at most 20 iterations`, `loop  3 iterations  3 undone`."""
    ended = node.tally.ended if node.tally else 0
    if node.state in ACTIVE:
        return Text(f"loop  {ended} of at most {node.limit} iterations", "dim")
    counts = [f"loop  {plural(ended, 'iteration')}"] if ended else []
    if node.tally is not None:
        counts += nonzero({"undone": node.tally.undone, "not undone": node.tally.undo_failed})
    return Text("  ".join(counts), "dim") if counts else None


def _fork_note(node: NodeView, output: Output) -> Text | None:
    """`map  730/1000  2 failed  10 executing`, `map  1000 items  2 failed`."""
    if node.forked is not None and node.state in ACTIVE:
        forked = node.forked
        note = Text(f"{node.kind}  ", "dim").append(f"{forked.ended}/{forked.total}", "bold")
        if output.form is Form.TERMINAL:
            note.append("  ").append_text(_bar(forked.ended / forked.total if forked.total else 1))
        counts = {
            "executing": forked.executing,
            "waiting": forked.waiting,
            "queued": forked.queued,
        }
        failed = failed_parts(node)
    elif node.tally is not None:
        tally = node.tally
        note = Text(f"{node.kind}  {plural(tally.ended, 'item')}", "dim")
        counts = {
            "cancelled": tally.cancelled,
            "undone": tally.undone,
            "not undone": tally.undo_failed,
        }
        failed = tally.failed
    else:
        return None
    if failed:
        note.append("  ").append(f"{failed} failed", "red")
    return note.append("".join(f"  {count}" for count in nonzero(counts)), "dim")


def failed_parts(node: NodeView) -> int:
    """How many branches or items have failed; a fork does not count errors that are kept."""
    return max(
        node.forked.failed if node.forked else 0,
        node.tally.failed if node.tally else 0,
    )


def _bar(fraction: float) -> Text:
    done = min(max(int(fraction * BAR_LENGTH), 0), BAR_LENGTH)
    return Text("━" * done, "green").append("━" * (BAR_LENGTH - done), "bright_black")


def _progress_note(progress: Progress, output: Output) -> Text:
    """`40%  reading page 3`."""
    parts: list[str] = []
    note = Text()
    if progress.fraction is not None:
        if output.form is Form.TERMINAL:
            note.append_text(_bar(progress.fraction)).append(" ")
        parts.append(f"{progress.fraction:.0%}")
    if progress.message:
        parts.append(one_line(progress.message))
    if progress.details is not None:
        details = one_line(as_json(progress.details, indent=None))
        parts.append(shortened(details, LONGEST_DETAILS))
    return note.append("  ".join(parts), "cyan")


def unit_notes(node: NodeView, output: Output, now: datetime) -> dict[str, Text]:
    """Notes on units of a fork, by unit: progress, wait or retry. At most `MOST_UNITS`."""
    if not node.is_fork:
        return {}
    notes = {unit: _progress_note(progress, output) for unit, progress in node.progress.items()}
    for unit in node.units:
        # The error of a branch stands on the branch's own line.
        text = wait_text(unit, output, now) or ("" if unit.branch else _retry_text(unit, now))
        if text and unit.unit not in node.progress:
            notes[unit.unit] = Text(text, "yellow")
    shown = dict(islice(notes.items(), MOST_UNITS))
    rest = len(notes) - len(shown)
    if rest:
        shown["…"] = Text(f"{rest} more" if len(node.units) < ALL_UNITS_BELOW else "more", "dim")
    return shown


def wait_text(unit: UnitInHand, output: Output, now: datetime) -> str:
    """The signal, child or time that a unit waits for, since when and until when; or empty."""
    match unit.waits_for:
        case "signal":
            parts = [f"waits for signal {one_line(unit.signal or '')}"]
        case "child":
            parts = [f"waits for child {unit.child_run_id}"]
        case "timer":
            parts = ["sleeps"]
        case "operator":
            parts = ["has used up its tries"]
        case _:
            return ""
    if unit.waiting_since is not None:
        is_terminal = output.form is Form.TERMINAL
        waited, since = coarse(now - unit.waiting_since), utc(unit.waiting_since)
        parts.append(f"for {waited}" if is_terminal else f"since {since}")
    if unit.wake_at is not None:
        parts.append(f"until {output.short_time(unit.wake_at, now)}")
    return " ".join(parts)


def _retry_text(unit: UnitInHand, now: datetime) -> str:
    """The attempt that follows a failed one, when it begins, and the error; empty without one."""
    if unit.error is None:
        return ""
    begins = f" in {span(unit.wake_at - now)}" if unit.wake_at else ""
    attempt = attempt_text(unit.attempt, unit.max_attempts)
    return f"{attempt}{begins}  {error_line(unit.error)}"
