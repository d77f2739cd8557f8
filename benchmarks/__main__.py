"""`python -m benchmarks`: prints what was measured, as ratios."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich.console import Console
from rich.table import Table

from benchmarks import journal, outbox, recover, steps, trees
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
    with console.status("measuring the look after runs that wait"), database() as url:
        measured = recover.measure(url, rounds)
    console.print(waiting_table(measured))
    with console.status("measuring the outbox"), database() as url:
        console.print(outbox_table(outbox.measure(url, rounds)))
    with console.status("measuring cancels and looks"), database() as url:
        console.print(trees_table(trees.measure(url)))


def trees_table(measured: Iterable[trees.Against]) -> Table:
    """What many runs, and large ones, cost who cancels them or looks at them."""
    table = Table("what", "ms", "against", "ms ", "ratio", title="Trees and large results")
    for one in measured:
        figures = f"{1000 * one.seconds:.1f}", one.against, f"{1000 * one.floor:.1f}"
        table.add_row(one.what, *figures, f"{one.seconds / one.floor:.2f}")
    return table


def outbox_table(measured: Iterable[outbox.Against]) -> Table:
    """What a look at the outbox costs, and who goes before whom."""
    table = Table("what", "measured", "against", "", "ratio", title="The outbox")
    for one in measured:
        ratio = f"{one.value / one.floor:.2f}" if one.floor else ""
        table.add_row(one.what, f"{one.value:.2f}", one.against, f"{one.floor:.2f}", ratio)
    return table


def waiting_table(measured: recover.Measured) -> Table:
    """What looking after `recover.MANY` runs that wait costs."""
    table = Table("what", "ms", "against", "ms ", "ratio", title="What waiting runs cost")

    def add(what: str, seconds: float, against: str, floor: float) -> None:
        figures = f"{1000 * seconds:.1f}", against, f"{1000 * floor:.1f}", f"{seconds / floor:.1f}"
        table.add_row(what, *figures)

    for runs, cost in ((recover.FEW, measured.few), (recover.MANY, measured.many)):
        add(f"recover(), {runs} runs wait", cost.recover, "no run", measured.empty.recover)
        add(f"reap, {runs} runs wait", cost.reap, "no run", measured.empty.reap)
        idle = cost.relay_second, "no run", measured.empty.relay_second
        add(f"a second of all idle relays, {runs} runs wait", *idle)
    lost = f"{recover.LOST} lost hints sent again beside {recover.MANY} runs"
    add(lost, measured.lost, "floor: the same rows by one bare statement", measured.floor)
    return table


if __name__ == "__main__":
    main()
