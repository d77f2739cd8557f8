"""`python -m benchmarks`: prints what was measured, as ratios."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from benchmarks import journal, steps
from benchmarks.measure import database

console = Console()


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Interleaved rounds; medians count.")
def main(rounds: int) -> None:
    """Measure the engine on a fresh database. Trust the ratios; rates differ by machine."""
    table = Table("what", "steps/s", "against", "steps/s ", "ratio", title="What a step costs")
    with console.status("measuring steps against the floor"), database() as url:
        engine, floor = steps.measure(url, rounds)
    table.add_row(
        f"engine, {steps.STEPS} small steps a run, 1 thread",
        f"{engine:.0f}",
        "floor: the same writes as one bare statement",
        f"{floor:.0f}",
        f"{engine / floor:.2f}",
    )
    with console.status("measuring the effect of earlier steps"), database() as url:
        few, many = journal.measure(url, rounds)
    table.add_row(
        f"engine, after {journal.MANY} earlier steps",
        f"{many:.0f}",
        f"after {journal.FEW}",
        f"{few:.0f}",
        f"{many / few:.2f}",
    )
    console.print(table)


if __name__ == "__main__":
    main()
