"""`python -m benchmarks [part ...]`: measures, and prints ratios first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import chart, report
from benchmarks.bench import Bench
from benchmarks.parts import PARTS
from benchmarks.section import Section
from benchmarks.services import Services


class Part(click.ParamType):
    """The name of a part."""

    name = "part"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in PARTS:
            self.fail(f"There is no part {value!r}. Choose from: {', '.join(PARTS)}.", param, ctx)
        return value


class Writable(click.Path):
    """A file that can be written, in a folder that exists."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if not path.parent.is_dir():
            self.fail(f"There is no folder {path.parent}. Make it first.", param, ctx)
        return path


@click.command()
@click.argument("parts", nargs=-1, type=Part(), metavar=f"[{' | '.join(PARTS)}] ...")
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Interleaved rounds; medians count.",
)
@click.option(
    "--seconds",
    default=2.0,
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
@click.option(
    "--only", default="", metavar="WORDS", help="Only contenders whose name has these words in it."
)
@click.option("--json", "json_file", type=Writable(), help="Write all that was measured here.")
@click.option("--svg", "svg_file", type=Writable(), help="Draw the rates here.")
def main(
    parts: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    minutes: float,
    only: str,
    json_file: Path | None,
    svg_file: Path | None,
) -> None:
    """Measure celery_durable beside its peers, plain Celery and the floor; all parts by default."""
    chosen = list(dict.fromkeys(parts)) or list(PARTS)
    screen, sections = report.console(), []
    with Services() as services:
        try:
            machine = report.machine(services.postgres.version)
        except psycopg.OperationalError as error:
            raise click.ClickException(
                f"Postgres does not answer. Start it, or set DATABASE_URL. It says: {error}"
            ) from None
        ends = time.monotonic() + 60 * minutes
        with progress(screen) as shown:
            task = shown.add_task("", total=len(chosen))
            for place, name in enumerate(chosen):
                now = time.monotonic()
                bench = Bench(
                    services,
                    rounds=rounds,
                    seconds=seconds,
                    deadline=now + max(0.0, ends - now) / (len(chosen) - place),
                    only=only,
                    say=lambda words: shown.update(task, description=words),
                )
                bench.say(name)
                for section in PARTS[name](bench):
                    sections.append(section)
                    report.show(screen, section)
                shown.advance(task)
    write(machine, sections, json_file, svg_file)


def write(
    machine: dict[str, object],
    sections: Sequence[Section],
    json_file: Path | None,
    svg_file: Path | None,
) -> None:
    """Write the files that were asked for."""
    if json_file:
        json_file.write_text(report.document(machine, sections))
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
