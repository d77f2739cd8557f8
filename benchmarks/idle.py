"""What workers use that have nothing to do: statements, processor time, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.compare import errors
from benchmarks.contenders import ABSURD, DBOS, celery, ours
from benchmarks.processor import ROLES, memory
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section, number
from benchmarks.services import Services
from benchmarks.session import Reading, Session
from benchmarks.statements import Counter
from benchmarks.waiting import fill

TITLE = "idle"
SETTLE, WATCH, ROUNDS = 10.5, 5.0, 2
"""Seconds until it is idle and Postgres has counted all of its work (a session that has become idle
reports what it did within ten seconds), seconds of looking on, and most rounds."""

WAITING = 100_000
BESIDE = replace(ours("RabbitMQ"), name=f"ours, RabbitMQ, prefork 2, {WAITING} runs wait")

CONTENDERS = (
    ours("RabbitMQ"),
    ours("RabbitMQ", "threads", 8),
    celery("RabbitMQ"),
    DBOS,
    ABSURD,
)
COLUMNS = ("who", "statements/s", "workers", "Postgres", "broker", "MiB resident", "rounds")


def measure(bench: Bench) -> Iterator[Section]:
    with bench.services.postgres.connect() as connection:
        source = Counter(connection, "").source
    trials = [Trial(one, "", watch(bench.services), rounds=ROUNDS) for one in CONTENDERS]
    trials.append(Trial(BESIDE, "", watch(bench.services, WAITING), rounds=1))
    rows = interleave(bench, TITLE, trials)
    yield Section(
        title=f"{TITLE}: statements/s, % of a core, MiB of each process",
        columns=COLUMNS,
        rows=[cells(row) for row in rows if row.is_measured],
        errors=errors(rows),
        note=f"Counted: {source}. Postgres and the broker count whole.",
        record=[row.record() for row in rows],
    )


def watch(services: Services, waiting: int = 0) -> Callable[[Session], Reading]:
    """Let it do some work, so that everything is open and loaded; then look on while nothing
    happens, and so many runs wait for a signal or a time.
    """

    def take(session: Session) -> Reading:
        session.ask("linear", runs=20)
        if waiting:
            with services.postgres.connect(session.database) as connection:
                fill(connection, waiting, ("signal", "timer"))
        time.sleep(SETTLE * min(1.0, session.seconds))
        with services.postgres.connect() as connection:
            counter = Counter(connection, session.database)
            before, asked, began = session.roles.look(), counter.look(), time.perf_counter()
            time.sleep(WATCH * min(1.0, session.seconds))
            used, seconds = session.roles.look().since(before), time.perf_counter() - began
            answer = {
                "units": 1,
                "seconds": seconds,
                "statements": counter.look() - asked,
                "memory": memory(session.roles.workers),
            }
        return Reading(answer, used)

    return take


def cells(row: Row) -> tuple[str, ...]:
    statements = _middle(row, lambda each: each.answer["statements"] / each.answer["seconds"])
    shares = [_share(row, role) for role in ROLES if role != "client"]
    resident = " + ".join(number(each) for each in row.readings[-1].answer["memory"])
    return (row.trial.name, number(statements), *shares, resident, str(len(row.readings)))


def _share(row: Row, role: str) -> str:
    """Percent of a core."""
    if row.microseconds(role) is None:
        return "-"
    share = _middle(row, lambda each: getattr(each.processor, role) / each.answer["seconds"])
    return f"{100 * share:.1f} %"


def _middle(row: Row, figure: Callable[[Reading], float]) -> float:
    return statistics.median(figure(reading) for reading in row.readings)
