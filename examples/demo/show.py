"""What the user sees: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from examples.demo import orders
from examples.demo.orders import Ending
from examples.demo.verdict import Verdict

PLAIN_SECONDS = 5
"""Between two lines of progress where bars cannot move."""

MOST_DETAILS = 10


class Show:
    """The screen. `began` is when the demo did."""

    def __init__(self, runs: int) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self.console = Console(highlight=False)
        self._runs = runs
        self._began = self._told = time.monotonic()
        self._progress = Progress(
            TextColumn("  {task.description:<12}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}

    def opening(self, where: str) -> None:
        """What is about to happen."""
        undone = orders.undeliverable(self._runs)
        self.console.print(
            f"""
[bold]celery_durable: durable workflows on the Celery you have[/]

  {self._runs} orders are about to be placed. Each is a workflow of five steps:
    [cyan]{" → ".join(orders.STEPS)}[/]
  {undone} of them cannot be shipped: what was done for them is undone, last first.

  Meanwhile [yellow]the broker loses all its messages[/], and [red]a worker is killed[/] (SIGKILL).
  In the end the books of the payment provider show what became of every
  order, and whether each charge was made once.

  [dim]This runs on {where}.[/]
""",
            soft_wrap=True,
        )

    def __enter__(self) -> Self:
        undone = orders.undeliverable(self._runs)
        add = self._progress.add_task
        self._bars = {
            "placed": add("placed", total=self._runs),
            orders.CHARGE: add("charged", total=self._runs),
            orders.LAST_STEP: add("[green]completed", total=self._runs - undone),
            orders.LAST_UNDO: add("[yellow]compensated", total=undone),
        }
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def event(self, text: str) -> None:
        """Something has happened."""
        seconds = time.monotonic() - self._began
        self.console.print(f"  [dim]{seconds:5.1f} s[/]  {text}")

    def moved(self, placed: int, done: Mapping[str, int]) -> None:
        """How far the orders are."""
        counts = {"placed": placed, **done}
        for unit, bar in self._bars.items():
            self._progress.update(bar, completed=counts.get(unit, 0))
        if not self.console.is_terminal and time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            ended = done.get(orders.LAST_STEP, 0) + done.get(orders.LAST_UNDO, 0)
            self.event(f"placed {placed}, charged {done.get(orders.CHARGE, 0)}, ended {ended}")

    def table(self, verdict: Verdict, *, runs: int, kills: int, lost: int) -> None:
        """What was counted."""
        take_over = "-" if verdict.take_over is None else f"{verdict.take_over:.1f} s"
        rows = {
            "runs": runs,
            "completed": verdict.endings.get(Ending.COMPLETED, 0),
            "compensated": verdict.endings.get(Ending.COMPENSATED, 0),
            "steps": verdict.steps,
            "kills": kills,
            "messages lost": lost,
            "duplicates refused": verdict.refused,
            "time to take over": take_over,
        }
        table = Table(show_header=False)
        table.add_column()
        table.add_column(justify="right", style="bold")
        for name, value in rows.items():
            table.add_row(name, str(value))
        self.console.print()
        self.console.print(Padding(table, (0, 0, 0, 2), expand=False))
        self.console.print()

    def good_end(self, verdict: Verdict) -> None:
        """Everything is as promised."""
        seconds = time.monotonic() - self._began
        refunds = "1 refund" if verdict.refunds == 1 else f"{verdict.refunds} refunds"
        self.console.print(
            f"  [bold green]✔ All {self._runs} orders ended.[/]"
            f" [green]{verdict.charges} charges and {refunds}, each made once.[/]"
            f" [dim]({seconds:.0f} s)[/]\n"
        )

    def bad_end(self, headline: str, details: Sequence[str], logs: Sequence[str] = ()) -> None:
        """Something is missing or doubled, or the demo could not be given."""
        self.console.print(f"  [bold red]✘ {headline}[/]")
        shown = list(details[:MOST_DETAILS])
        if len(details) > len(shown):
            shown.append(f"... and {len(details) - len(shown)} more")
        for detail in shown:
            self.console.print(Text(f"    {detail}", style="red"), soft_wrap=True)
        for log in logs:
            self.console.print(Text(f"\n{log}", style="dim"), soft_wrap=True)
        self.console.print()
