"""`python -m benchmarks [PART]...`: measures, and prints ratios first."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import ArgumentError

from benchmarks import chart, report, targets
from benchmarks.parts import PARTS
from benchmarks.schedule import Limits, benches
from benchmarks.section import Section
from benchmarks.services import Services
from celery_durable.errors import ConfigurationError


def in_a_folder(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a file in a folder that does not exist before anything is measured."""
    if value and not value.parent.is_dir():
        raise click.BadParameter(f"There is no folder {value.parent}. Make it first.")
    return value


written = partial(
    click.option, type=click.Path(dir_okay=False, path_type=Path), callback=in_a_folder
)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS]), metavar="[PART]...")
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Interleaved rounds; medians count.",
)
@click.option(
    "--seconds",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Length of one measurement of a rate.",
)
@click.option(
    "--minutes",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="After its share of these a part begins no further round.",
)
@click.option("--large", is_flag=True, help="Beside a million waiting runs, and the like.")
@click.option(
    "--only", default="", metavar="WORDS", help="Only contenders whose name has these words in it."
)
@written("--json", "json_file", help="Write all that was measured here.")
@written("--svg", "svg_file", help="Draw the rates here.")
def main(
    parts: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    minutes: float,
    large: bool,
    only: str,
    json_file: Path | None,
    svg_file: Path | None,
) -> None:
    """Measure celery_durable beside its peers, plain Celery and the floor.

    Parts, all by default: linear, latency, fanout, start, idle and counts, against others; few,
    slow, growth, waiting, outbox, prune, trees and page, of our own. The last table holds what was
    measured against the targets. Trust the ratios of one run; rates differ by machine.
    """
    # As after Ctrl-C: databases, virtual hosts and servers are gone afterwards.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = list(dict.fromkeys(parts)) or list(PARTS)
    screen = report.console()
    with Services() as services:
        try:
            machine = report.machine(services.postgres.version)
        except (psycopg.OperationalError, ConfigurationError, ArgumentError) as error:
            raise click.ClickException(
                f"There is no Postgres. Start one, and set DATABASE_URL. {error}"
            ) from None
        sections, missing = [], list[str]()
        with progress(screen) as shown:
            limits = Limits(rounds, seconds, minutes, large)
            for bench, name in benches(services, chosen, limits, only, shown):
                for section in PARTS[name].measure(bench):
                    sections.append(section)
                    report.show(screen, section)
                missing += bench.missing
    screen.print(report.foot(machine), highlight=False)
    reached = targets.section(sections)
    report.show(screen, reached)
    if not any(section.rows or section.errors for section in sections):
        raise click.ClickException(f"No contender has {only!r} in its name. Leave out --only.")
    write(machine, sections, reached, json_file, svg_file)
    if missing:
        raise click.ClickException(f"Not all of the work was done: {'; '.join(missing)}.")


def write(
    machine: dict[str, object],
    sections: Sequence[Section],
    reached: Section,
    json_file: Path | None,
    svg_file: Path | None,
) -> None:
    """Write the files that were asked for."""
    if json_file:
        json_file.write_text(report.document(machine, sections, reached))
    if svg_file:
        svg_file.write_text(chart.svg(sections))


def progress(screen: Console) -> Progress:
    """A bar while it runs; nothing where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        BarColumn(20),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )


if __name__ == "__main__":
    main()
