"""One run of ten steps on an idle system: to the commit of its end, and until its result is
there.

The commit is seen by asking every half millisecond; a chain's end is a line in a file, asked for as
often. The result is what each offers: `result()`, a Celery result over rpc:// or Redis, DBOS'
handle in the process that executes the workflow, absurd's `await_task_result`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.compare import errors
from benchmarks.contenders import ABSURD, DBOS_DIRECT, celery, ours
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Bar, Section, ratio
from benchmarks.session import Reading, Session

TITLE = "latency"
TIMES = 15
"""Runs of each kind in a round."""

OURS, CHAIN = ours("RabbitMQ"), celery("RabbitMQ", results=True)

CONTENDERS = (
    OURS,
    ours("RabbitMQ", "threads", 8),
    ours("Redis"),
    ours("pgmq"),
    CHAIN,
    celery("Redis", results=True),
    DBOS_DIRECT,
    ABSURD,
)

AGAINST = {"chain": CHAIN.name, "DBOS": DBOS_DIRECT.name, "absurd": ABSURD.name}
COLUMNS = ("who", "committed, p50", "p99", "result(), p50", "p99", "runs of each")


def measure(bench: Bench) -> Iterator[Section]:
    rows = interleave(bench, TITLE, [Trial(contender, "", single) for contender in CONTENDERS])
    measured = [row for row in rows if row.is_measured]
    named = {row.trial.name: row for row in measured}
    others = {head: named[name] for head, name in AGAINST.items() if name in named}
    yield ratios(measured, others)
    yield Section(
        title=f"{TITLE} of an idle 10-step run: ms",
        columns=COLUMNS,
        rows=[cells(row) for row in measured],
        errors=errors(rows),
        note="DBOS in the process that starts it: its queue adds a poll.",
        chart=f"{TITLE} of an idle 10-step run: ms until its result is there, p50",
        bars=[
            Bar(
                row.trial.name, 1000 * middle(row, "returned"), row.trial.contender.system == "ours"
            )
            for row in measured
        ],
        record=[row.record() for row in rows],
        figures=figures(named),
    )


def figures(named: Mapping[str, Row]) -> dict[str, float]:
    """What the targets ask for."""
    row, chain = named.get(OURS.name), named.get(CHAIN.name)
    if row is None or chain is None:
        return {}
    kinds = ("committed", "returned")
    return {f"latency: {kind}": middle(row, kind) / middle(chain, kind) for kind in kinds}


def single(session: Session) -> Reading:
    """Runs one after the other, each on an idle system."""
    times = max(1, round(TIMES * min(1.0, session.seconds)))
    return session.measure("latency", times=times)


def ratios(rows: Sequence[Row], others: dict[str, Row]) -> Section:
    lines = [
        (row.trial.name, *(_against(row, other) for other in others.values()))
        for row in rows
        if row.trial.contender.system == "ours"
    ]
    return Section(
        title=f"{TITLE}: committed / result(), p50, as multiples of the others' (less is better)",
        columns=("who", *others),
        rows=lines if others else [],
    )


def _against(row: Row, other: Row) -> str:
    kinds = ("committed", "returned")
    return " / ".join(ratio(middle(row, kind), middle(other, kind)) for kind in kinds)


def cells(row: Row) -> tuple[str, ...]:
    figures = [
        f"{1000 * figure(row.samples(kind)):.1f}"
        for kind in ("committed", "returned")
        for figure in (statistics.median, p99)
    ]
    return (row.trial.name, *figures, str(len(row.samples("returned"))))


def middle(row: Row, kind: str) -> float:
    return statistics.median(row.samples(kind))


def p99(samples: Sequence[float]) -> float:
    """The duration that 99 of 100 do not exceed; with fewer than 100 it is the longest."""
    ranked = sorted(samples)
    return ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
