"""Pruning: what it costs by itself, and what steps cost beside a relay that prunes.

First `durable.prune()` deletes all old runs of a database, with nothing else to do. Then with real
workers: beside old rows, which their relay prunes in the background, and beside as many that are
young.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.compare import Versus, sections
from benchmarks.contenders import Contender, ours
from benchmarks.crowd import EACH, Crowd
from benchmarks.engine import durable_on, plain
from benchmarks.growth import churned
from benchmarks.processor import Roles
from benchmarks.programs.wire import expect
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section, number
from benchmarks.session import Reading, Session

TITLE = "prune"
ROWS, LARGE = 500_000, 10_000_000
"""Rows of ended runs: so many units, nine of ten. `--large` has a million runs."""

LEFT = "SELECT count(*) FROM durable_run WHERE workflow = 'ended'"

PREFORK = ours("RabbitMQ")


def measure(bench: Bench) -> Iterator[Section]:
    rows = LARGE if bench.large else ROWS
    yield alone(bench, rows)
    young, old = (PREFORK.crowded(Crowd(what, rows)) for what in ("finished", "old"))
    take = counting_old_runs(bench)
    measured = interleave(bench, TITLE, [Trial(one, "", take) for one in (young, old)])
    pruned = rows // (EACH + 1) - min(
        (reading.answer["old_runs"] for row in measured[1:] for reading in row.readings), default=0
    )
    note = f"Ours with its default settings. In all rounds the relay pruned {pruned:,} old runs."
    yield from sections(
        TITLE,
        "steps",
        measured,
        {"beside young rows": young.name},
        note=note,
        figures=figures(measured, old, young),
    )


def counting_old_runs(bench: Bench) -> Callable[[Session], Reading]:
    """Measure, and count the old runs that are left after that."""
    measured = churned(1.0)

    def take(session: Session) -> Reading:
        reading = measured(session)
        with bench.services.postgres.connect(session.database) as connection:
            (left,) = connection.execute(LEFT).fetchone() or (0,)
        return replace(reading, answer={**reading.answer, "old_runs": left})

    return take


def figures(rows: Sequence[Row], old: Contender, young: Contender) -> dict[str, float | None]:
    """What the targets ask for."""
    return {"prune: steps": Versus(rows).fast(old.name, young.name)}


def alone(bench: Bench, rows: int) -> Section:
    """Delete all runs, as fast as it goes."""
    postgres = bench.services.postgres
    with postgres.database() as name:
        durable, connection = durable_on(postgres.url(name)), plain(postgres.url(name))
        Crowd("old", rows).fill(connection)
        database = None if postgres.is_ours else name
        roles = Roles((), postgres.pid, broker=(), client=os.getpid(), database=database)
        before, began = roles.look(), time.perf_counter()
        runs = durable.prune()
        elapsed, used = time.perf_counter() - began, roles.look().since(before)
        expect(runs, rows // (EACH + 1), "runs that were pruned")
        connection.close()
        durable.database.close()
    return Section(
        title=f"{TITLE}: {runs:,} runs of {EACH} units, with nothing else to do",
        columns=("runs/s", "rows/s", "us of processors a run", "seconds for a million"),
        rows=[
            (
                number(runs / elapsed),
                number(rows / elapsed),
                number(1e6 * used.all / runs),
                number(1e6 * elapsed / runs),
            )
        ],
        record=[{"runs": runs, "seconds": elapsed, "processor_seconds": used.all}],
    )
