"""Runs of ten small steps, many in flight.

Celery's chains keep no results; the last task of each appends a line to a file. The time is from
the first start until the last run has ended, the client's own work included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.bench import Bench
from benchmarks.compare import Versus, sections
from benchmarks.contenders import (
    ABSURD,
    DBOS,
    Contender,
    celery,
    floor,
    ours,
    with_single,
    without_bundles,
)
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section
from benchmarks.session import Reading, Session

TITLE = "linear"
FEWEST, MOST = 20, 4000

PREFORK, THREADS = ours("RabbitMQ"), ours("RabbitMQ", "threads", 8)

CONTENDERS: tuple[Contender, ...] = (
    *with_single(PREFORK, THREADS),
    ours("Redis"),
    ours("Redis", "threads", 8),
    ours("pgmq"),
    ours("pgmq", "threads", 8),
    celery("RabbitMQ"),
    celery("Redis"),
    DBOS,
    ABSURD,
    floor(2, 4),
    floor(1, 8),
    floor(2, 4, writes=2),
)

AGAINST = {
    "floor 2x4": floor(2, 4).name,
    "floor 1x8": floor(1, 8).name,
    "chain": celery("RabbitMQ").name,
    "DBOS": DBOS.name,
    "absurd": ABSURD.name,
}


def measure(bench: Bench) -> Iterator[Section]:
    trials = [Trial(contender, "", many) for contender in CONTENDERS]
    rows = interleave(bench, TITLE, trials)
    note = (
        "10 small steps a run. Chains keep no results; their last task appends a line to a file."
        " The broker of pgmq is Postgres. The floor writes a token, a journal row and an outbox"
        " row in each step; of ours only each message has an outbox row."
    )
    return sections(TITLE, "steps", rows, AGAINST, note=note, figures=figures(rows))


def figures(rows: Sequence[Row]) -> dict[str, float | None]:
    """What the targets ask for."""
    versus, single = Versus(rows), without_bundles(PREFORK).name
    return {
        "linear: DBOS": versus.best(DBOS.name),
        "linear: absurd": versus.best(ABSURD.name),
        "linear: chain": versus.fast(PREFORK.name, AGAINST["chain"]),
        "linear: floor, prefork": versus.fast(PREFORK.name, AGAINST["floor 2x4"]),
        "linear: floor, threads": versus.fast(THREADS.name, AGAINST["floor 1x8"]),
        "linear: processor": versus.cost(PREFORK.name, AGAINST["floor 2x4"]),
        "linear: processor, bundle 1": versus.cost(single, AGAINST["floor 2x4"]),
    }


def many(session: Session) -> Reading:
    """Warm up, then measure as many runs as take about the time a measurement should take."""
    session.ask("linear", runs=FEWEST)
    warm = session.measure("linear", runs=FEWEST)
    runs = int(session.seconds * FEWEST / warm.answer["seconds"])
    return session.measure("linear", runs=min(max(runs, FEWEST), MOST))
