"""What workers use that have nothing to do: statements, processor time, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.compare import errors
from benchmarks.contenders import ABSURD, DBOS, celery, ours
from benchmarks.counting import counting
from benchmarks.crowd import Crowd
from benchmarks.processor import ROLES, memory
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section, number
from benchmarks.services import Services
from benchmarks.session import Reading, Session
from benchmarks.statements import Counter

TITLE = "idle"
SETTLE, WATCH, ROUNDS = 3.0, 5.0, 2
"""Seconds until it is idle, seconds of looking on, and most rounds."""

WAITING, MANY_WAITING = 100_000, 1_000_000
"""Runs that wait beside an idle worker; as many with `--large`."""

OURS = ours("RabbitMQ")
CONTENDERS = (
    OURS,
    ours("RabbitMQ", "threads", 8),
    celery("RabbitMQ"),
    DBOS,
    ABSURD,
)
COLUMNS = ("who", "statements/s", "workers", "Postgres", "broker", "MiB: PSS/RSS", "rounds")


def measure(bench: Bench) -> Iterator[Section]:
    crowded = OURS.crowded(Crowd("waiting", MANY_WAITING if bench.large else WAITING))
    with counting(bench.services) as services:
        with services.postgres.connect() as connection:
            source = Counter(connection, "").source
        looks = [Trial(one, "", watch(services), rounds=ROUNDS) for one in (*CONTENDERS, crowded)]
        rows = interleave(replace(bench, services=services), TITLE, looks)
    named = {row.trial.name: row for row in rows if row.is_measured}
    yield Section(
        title=f"{TITLE}: statements/s, % of a core, MiB of each process",
        columns=COLUMNS,
        rows=[cells(row) for row in rows if row.is_measured],
        errors=errors(rows),
        note=f"Counted: {source}. Postgres and the broker count whole.",
        record=[row.record() for row in rows],
        figures={
            **({"idle: statements": asked(named[OURS.name])} if OURS.name in named else {}),
            **({"idle: processor": share(named[crowded.name])} if crowded.name in named else {}),
        },
    )


def watch(services: Services) -> Callable[[Session], Reading]:
    """Let it do some work, so that everything is open and loaded; then look on while nothing
    happens.
    """

    def take(session: Session) -> Reading:
        session.ask("linear", runs=20)
        time.sleep(SETTLE * min(1.0, session.seconds))
        with services.postgres.connect() as connection:
            counter = Counter(connection, session.database)
            counter.settle()
            before, earlier = session.roles.look(), counter.look()
            began = time.perf_counter()
            time.sleep(WATCH * min(1.0, session.seconds))
            used, seconds = session.roles.look().since(before), time.perf_counter() - began
            answer = {
                "units": 1,
                "seconds": seconds,
                "statements": counter.look().since(earlier).statements,
                "memory": memory(session.roles.workers),
            }
        return Reading(answer, used)

    return take


def cells(row: Row) -> tuple[str, ...]:
    shares = [_share(row, role) for role in ROLES if role != "client"]
    resident = " + ".join(f"{pss:.0f}/{rss:.0f}" for pss, rss in row.readings[-1].answer["memory"])
    return (row.trial.name, number(asked(row)), *shares, resident, str(len(row.readings)))


def asked(row: Row) -> float:
    """Statements per second."""
    return _middle(row, lambda each: each.answer["statements"] / each.answer["seconds"])


def share(row: Row) -> float:
    """Percent of a core, of workers and Postgres; the broker idles at its own cost."""

    def used(reading: Reading) -> float:
        processor, seconds = reading.processor, float(reading.answer["seconds"])
        others = (processor.client or 0.0) + (processor.broker or 0.0)
        return 100 * (processor.all - others) / seconds

    return _middle(row, used)


def _share(row: Row, role: str) -> str:
    """Percent of a core."""
    if row.microseconds(role) is None:
        return "-"
    share = _middle(row, lambda each: getattr(each.processor, role) / each.answer["seconds"])
    return f"{100 * share:.1f} %"


def _middle(row: Row, figure: Callable[[Reading], float]) -> float:
    return statistics.median(figure(reading) for reading in row.readings)
