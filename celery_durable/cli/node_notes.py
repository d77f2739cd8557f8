"""What is said of a node beside its state, and on the lines below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from celery_durable.cli.document import as_json
from celery_durable.cli.formatting import clock, coarse, one_line, span, utc, why
from celery_durable.cli.output import Form, Output
from celery_durable.cli.steps import IN_HAND, StepStanding
from celery_durable.store.read.position import Progress, UnitInHand

BAR = 20
"""Signs that a progress bar is long."""

UNITS_BELOW = 5
"""Units of one node that have lines of their own: what they wait for, what they say."""

LONGEST_DETAILS = 80


def note(step: StepStanding, output: Output, now: datetime) -> Text:
    """Which attempt, what it waits for, how far it is, and the error."""
    parts = [part for part in (_kind(step, output), _try(step, now)) if part]
    waits = [unit for unit in step.units if unit.waits_for in ("signal", "timer", "child")]
    if len(waits) == 1 and step.state in IN_HAND and not _lists_units(step):
        parts.append(Text(waiting(waits[0], output, now), "yellow"))
    if not _lists_units(step):
        parts += [_progress(said, output) for said in (step.progress or {}).values()]
    if step.error is not None:
        parts.append(Text(why(step.error), "red"))
    return Text("  ").join(parts)


def _lists_units(step: StepStanding) -> bool:
    return step.kind in ("map", "parallel")


def _try(step: StepStanding, now: datetime) -> Text | None:
    """Which try, and how long until it begins."""
    waits = any(unit.waits_for for unit in step.units)
    tries = f"attempt {step.attempt}" if step.attempt > 1 else ""
    wakes = f"in {span(step.wake_at - now)}" if step.wake_at and not waits else ""
    said = " ".join(part for part in (tries, wakes) if part)
    return Text(said, "yellow" if wakes else "dim") if said else None


def _kind(step: StepStanding, output: Output) -> Text | None:
    """What belongs to this kind of node."""
    match step.kind:
        case "map" | "parallel":
            return _fork(step, output)
        case "loop":
            done = step.tally.ended if step.tally else 0
            if step.state in IN_HAND:
                return Text(f"loop  {done} of at most {step.limit} iterations", "dim")
            return _loop_ended(step, done)
        case "route" if step.branch is not None:
            return Text(f"case {one_line(step.branch)}", "dim")
        case _:
            return None


def _loop_ended(step: StepStanding, done: int) -> Text | None:
    said = [f"loop  {done} iteration{'' if done == 1 else 's'}"] if done else []
    if step.tally is not None:
        said += _counted(("undone", step.tally.undone), ("not undone", step.tally.undo_failed))
    return Text("  ".join(said), "dim") if said else None


def _fork(step: StepStanding, output: Output) -> Text | None:
    """`map  730/1000  2 failed  10 executing`."""
    if step.forked is not None and step.state in IN_HAND:
        at = step.forked
        said = Text(f"{step.kind}  ", "dim").append(f"{at.ended}/{at.total}", "bold")
        if output.form is Form.TERMINAL:
            said.append("  ").append_text(bar(at.ended / at.total if at.total else 1.0))
        counts = (("executing", at.executing), ("waiting", at.waiting), ("queued", at.queued))
        return _with_failed(said, failed_of(step), _counted(*counts))
    if step.tally is None:
        return None
    done = step.tally
    items = f"{step.kind}  {done.ended} item{'' if done.ended == 1 else 's'}"
    counts = (
        ("cancelled", done.cancelled),
        ("undone", done.undone),
        ("not undone", done.undo_failed),
    )
    return _with_failed(Text(items, "dim"), done.failed, _counted(*counts))


def failed_of(step: StepStanding) -> int:
    """How many branches or items have failed; the gate does not count errors that are kept."""
    return max(
        step.forked.failed if step.forked else 0,
        step.tally.failed if step.tally else 0,
    )


def _with_failed(said: Text, failed: int, counts: Sequence[str]) -> Text:
    if failed:
        said.append("  ").append(f"{failed} failed", "red")
    return said.append("".join(f"  {count}" for count in counts), "dim")


def _counted(*counts: tuple[str, int]) -> list[str]:
    return [f"{count} {word}" for word, count in counts if count]


def bar(fraction: float) -> Text:
    """How much is done, drawn."""
    done = min(max(int(fraction * BAR), 0), BAR)
    return Text("━" * done, "green").append("━" * (BAR - done), "bright_black")


def waiting(unit: UnitInHand, output: Output, now: datetime) -> str:
    """What a unit waits for, since when, and until when."""
    match unit.waits_for:
        case "signal":
            what = f"waits for signal {one_line(unit.signal or '')}"
        case "child":
            what = f"waits for child {unit.child_run_id}"
        case "timer":
            what = "sleeps"
        case _:
            return ""
    is_terminal = output.form is Form.TERMINAL
    said = [what]
    if unit.waiting_since is not None:
        said.append(
            f"for {coarse(now - unit.waiting_since)}"
            if is_terminal
            else f"since {utc(unit.waiting_since)}"
        )
    if unit.wake_at is not None:
        until = clock(unit.wake_at, now) if is_terminal else utc(unit.wake_at)
        said.append(f"until {until}")
    return " ".join(said)


def _progress(said: Progress, output: Output) -> Text:
    """`40%  reading page 3`."""
    parts: list[str] = []
    text = Text()
    if said.fraction is not None:
        if output.form is Form.TERMINAL:
            text.append_text(bar(said.fraction)).append(" ")
        parts.append(f"{said.fraction:.0%}")
    if said.message:
        parts.append(one_line(said.message))
    if said.details is not None:
        parts.append(_details(said.details))
    return text.append("  ".join(parts), "cyan")


def _details(details: Any) -> str:
    text = one_line(as_json(details, indent=None))
    return text if len(text) <= LONGEST_DETAILS else f"{text[:LONGEST_DETAILS]}…"


def below(step: StepStanding, output: Output, now: datetime) -> Iterator[tuple[str, Text]]:
    """Units of a fork that have something to say: their names, and that."""
    if not _lists_units(step):
        return
    told = dict(_told(step, output, now))
    yield from list(told.items())[:UNITS_BELOW]
    left = len(told) - UNITS_BELOW
    if left > 0:
        yield "…", Text(f"{left} more" if len(step.units) < MANY else "more", "dim")


MANY = 90
"""Units in hand from which there may be more than a snapshot lists."""


def trying(unit: UnitInHand, now: datetime) -> str:
    """Which try of a unit that has failed before is in hand, when it begins, and the error."""
    if unit.error is None:
        return ""
    wakes = f" in {span(unit.wake_at - now)}" if unit.wake_at else ""
    return f"attempt {unit.attempt}{wakes}  {why(unit.error)}"


def _told(step: StepStanding, output: Output, now: datetime) -> Iterator[tuple[str, Text]]:
    for unit, said in (step.progress or {}).items():
        yield unit, _progress(said, output)
    for at in step.units:
        # What a branch fails with stands on its own line.
        words = waiting(at, output, now) or ("" if at.branch else trying(at, now))
        if words and at.unit not in (step.progress or {}):
            yield at.unit, Text(words, "yellow")
