"""What a chaos run shows: progress, then tables; of a failure all that is known."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.chaos.faults import Strike
from tests.chaos.ledger import Execution
from tests.chaos.verdict import Breach, Evidence, Repeat, noticed, repeats, story_of, takeovers
from tests.mutants.report import console

SHOWN = 5
"""Breaches that are shown with all that is known of their runs."""

AROUND = 5.0
"""Seconds of the schedule shown before and after what a run did."""

__all__ = ["bar", "console", "show_breaches", "show_tables"]


def bar(shown: Console) -> Progress:
    """A bar; nothing at all in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


def show_tables(shown: Console, broker: str, evidence: Evidence, logs: Mapping[str, str]) -> None:
    """Faults, runs, and what the processes logged."""
    shown.print(_faults(broker, evidence))
    shown.print(_runs(broker, evidence))
    shown.print(_logs(logs))


def _faults(broker: str, evidence: Evidence) -> Table:
    table = Table(title=f"Faults on {broker}")
    table.add_column("fault")
    table.add_column("times", justify="right")
    table.add_column("attempts it explains twice", justify="right")
    explained = Counter(one.cause.kind for one in repeats(evidence) if one.cause is not None)
    for kind, number in sorted(Counter(strike.kind for strike in evidence.strikes).items()):
        table.add_row(kind, str(number), str(explained[kind]))
    table.add_row("in all", str(len(evidence.strikes)), str(sum(explained.values())))
    return table


def _runs(broker: str, evidence: Evidence) -> Table:
    table = Table(title=f"Runs on {broker}")
    table.add_column("what")
    table.add_column("number", justify="right")
    accounts = evidence.accounts
    mine = [accounts.runs[run_id] for run_id in evidence.started if run_id in accounts.runs]
    units = [unit for run in accounts.runs.values() for unit in run.units]
    table.add_row("runs started", f"{len(evidence.started):,}")
    for status, number in sorted(Counter(run.status for run in mine).items()):
        table.add_row(f"  {status}", f"{number:,}")
    table.add_row("pauses, and units tried now", f"{evidence.steered:,}")
    table.add_row("child runs", f"{len(accounts.runs) - len(mine):,}")
    table.add_row("units recorded", f"{len(units):,}")
    table.add_row("executions of handlers", f"{len(evidence.executions):,}")
    again = repeats(evidence)
    table.add_row("  of an attempt begun before", f"{len(again):,}")
    table.add_row("  without a fault that explains it", f"{_unexplained(again):,}")
    table.add_row("effects in the database", f"{sum(accounts.effects.values()):,}")
    table.add_row("tokens, outbox and inbox rows left", f"{sum(accounts.left.values()):,}")
    _add_takeovers(table, "units taken over from a killed process", takeovers(evidence))
    alone = takeovers(evidence, alone=True)
    _add_takeovers(table, "  while nothing else was broken", alone)
    _add_takeovers(table, "deaths noticed, while Postgres was well", noticed(evidence))
    table.add_row("journal rows seen by a witness", f"{len(evidence.seen):,}")
    return table


def _add_takeovers(table: Table, what: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    table.add_row(what, f"{len(ordered):,}")
    for name, share in (("p50", 0.50), ("p99", 0.99)) if ordered else ():
        table.add_row(f"    after, {name}", f"{percentile(ordered, share):.2f} s")


def _unexplained(again: Sequence[Repeat]) -> int:
    return sum(one.cause is None for one in again)


def percentile(ordered: Sequence[float], share: float) -> float:
    if len(ordered) < 2:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method="inclusive")[round(share * 100) - 1]


def _logs(logs: Mapping[str, str]) -> Table:
    table = Table(title="What processes logged")
    for name in ("process", "warnings", "errors", "tracebacks"):
        table.add_column(name, justify="left" if name == "process" else "right")
    for process, text in logs.items():
        words = ("WARNING/", "ERROR/", "Traceback (most recent call last)")
        table.add_row(process, *(f"{text.count(word):,}" for word in words))
    return table


def show_breaches(shown: Console, found: Sequence[Breach], evidence: Evidence, zero: float) -> None:
    """Each breach in a line; of the first ones the record, the executions, the faults near."""
    for breach in found:
        shown.print(f"{breach.run_id or ''} {breach.what}", style="bold red")
    for breach in found[:SHOWN]:
        if breach.run_id in evidence.accounts.runs:
            for line in _story(breach, evidence, zero):
                shown.print(line)


def _story(breach: Breach, evidence: Evidence, zero: float) -> list[str]:
    assert breach.run_id is not None
    tree = evidence.accounts.trees[evidence.accounts.runs[breach.run_id].root]
    ids = {run.id for run in tree}
    calls = [one for one in evidence.executions if one.run_id in ids]
    lines = [f"\n{breach.what}", *(line for run in tree for line in story_of(run))]
    lines += [
        f"  at {one.began - zero:.3f} s: {one.unit} attempt {one.attempt} in process {one.pid},"
        f" {'not ended' if one.ended is None else f'until {one.ended - zero:.3f} s'}"
        for one in calls
    ]
    near = [strike for strike in evidence.strikes if calls and _is_near(strike, calls)]
    return [*lines, *(_told(strike, zero) for strike in near)]


def _is_near(strike: Strike, calls: Sequence[Execution]) -> bool:
    began = [call.began for call in calls]
    return strike.ended > min(began) - AROUND and strike.began < max(began) + AROUND


def _told(strike: Strike, zero: float) -> str:
    pids = f"killed {sorted(strike.killed)}" if strike.killed else ""
    return (
        f"  fault at {strike.began - zero:.3f} s until {strike.ended - zero:.3f} s: {strike.kind}"
        f" {strike.detail} {pids}"
    )
