"""Does a step cost more the more there is already: in its run, in its result, in the database?

First in this process: the last steps of a run with ten thousand, and steps with large results. Then
with real workers: beside runs that wait, rows of runs that have ended, and a session that holds on
to its snapshot, so that nothing can be cleaned up. `--large` fills in ten to fifty times as much.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID, uuid4

import psycopg

from benchmarks.bench import Bench
from benchmarks.compare import Versus, sections
from benchmarks.contenders import Contender, ours
from benchmarks.crowd import Crowd
from benchmarks.engine import durable_on, plain, waiting_tokens, workflow_of
from benchmarks.processor import Roles
from benchmarks.programs.wire import expect
from benchmarks.rounds import Row, Trial, interleave
from benchmarks.section import Section, median_ratio, number
from benchmarks.session import Reading, Session
from celery_durable import Durable

TITLE = "growth"
TAIL = 300
"""Steps that are measured in this process, the last of their run."""

FEW, MANY = 10, 10_000
"""Steps of a run, but for those that are measured, and of a long run in all."""

SMALL, LARGE = 100, 10_000
"""Characters of a result."""

CHURN, MORE_CHURN = 2.0, 30.0
"""How many times as long as one measurement work goes on before it; with `--large`."""

FILL = """
INSERT INTO durable_journal
    (run_id, unit, node, outcome, undoable, attempt, result, worker, started_at)
SELECT %(run)s, 'step_' || n, 'step_' || n, 'completed', false, 1, '{"ok":true}', %(worker)s, now()
FROM generate_series(0, %(steps)s - 1) AS n
"""
PLACE = "UPDATE durable_token SET node = %(next)s, unit = %(next)s WHERE run_id = %(run)s"

PREFORK = ours("RabbitMQ")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step takes in the rounds, in seconds: of time, and of processors (this process and
    Postgres).
    """

    what: str
    against: str
    elapsed: list[float]
    processor: list[float]


def measure(bench: Bench) -> Iterator[Section]:
    yield in_this_process(bench)
    base, *crowds = (PREFORK.crowded(crowd) for crowd in beside(large=bench.large))
    churn = MORE_CHURN if bench.large else CHURN
    trials = [Trial(one, "", churned(churn)) for one in (base, *crowds)]
    rows = interleave(bench, TITLE, trials)
    note = "Ours with its default settings; the others here are ours, beside nothing."
    found = figures(rows, base, crowds)
    yield from sections(
        TITLE, "steps", rows, {"beside nothing": base.name}, note=note, figures=found
    )


def beside(*, large: bool) -> Iterator[Crowd]:
    """What is in the databases, nothing first."""
    waiting, finished = (1_000_000, 10_000_000) if large else (100_000, 200_000)
    yield Crowd("nothing")
    yield Crowd("waiting", waiting)
    yield Crowd("finished", finished)
    yield Crowd("snapshot")


def churned(times: float) -> Callable[[Session], Reading]:
    """Work for some time, so that there is something to clean up; then measure."""

    def take(session: Session) -> Reading:
        warm = session.measure("linear", runs=20)
        runs = max(20, int(session.seconds * warm.rate / 10))
        for _ in range(round(times)):
            session.ask("linear", runs=runs)
        return session.measure("linear", runs=runs)

    return take


def figures(
    rows: Sequence[Row], base: Contender, crowds: Sequence[Contender]
) -> dict[str, float | None]:
    """What the targets ask for."""
    versus = Versus(rows)
    return {
        f"growth: {one.beside.what}": versus.fast(one.name, base.name)
        for one in crowds
        if one.beside
    }


def in_this_process(bench: Bench) -> Section:
    """One thread takes a run from a step to its end."""
    postgres = bench.services.postgres
    with postgres.database() as name:
        database = None if postgres.is_ours else name
        roles = Roles((), postgres.pid, broker=(), client=os.getpid(), database=database)
        costs = compare(postgres.url(name), bench.rounds, roles)
    named = {cost.what: cost for cost in costs}
    ratios = [
        median_ratio(cost.processor, named[cost.against].processor) if cost.against else 1.0
        for cost in costs
    ]
    return Section(
        title=f"{TITLE}: microseconds of a step, one thread without a worker",
        columns=("what", "us", "us of processors", "processors, ratio", "against"),
        rows=[
            (
                cost.what,
                number(1e6 * statistics.median(cost.elapsed)),
                number(1e6 * statistics.median(cost.processor)),
                f"{ratio:.2f}",
                cost.against,
            )
            for cost, ratio in zip(costs, ratios, strict=True)
        ],
        record=[asdict(cost) for cost in costs],
        figures={"growth: steps": ratios[1]},
    )


def compare(url: str, rounds: int, roles: Roles) -> list[Cost]:
    """All of them in turn, in each round."""
    durable, connection = durable_on(url), plain(url)
    begun = {"short": FEW, "long": MANY - TAIL, "small": FEW, "large": FEW}
    workflow_of(durable, "short", FEW + TAIL)
    workflow_of(durable, "long", MANY)
    for workflow, size in (("small", SMALL), ("large", LARGE)):
        workflow_of(durable, workflow, FEW + TAIL, result="x" * size)
    costs = [
        Cost(f"the {TAIL} steps after {FEW}", "", [], []),
        Cost(f"the last {TAIL} of {MANY:,} steps", f"the {TAIL} steps after {FEW}", [], []),
        Cost(f"results of {SMALL} B", f"the {TAIL} steps after {FEW}", [], []),
        Cost(f"results of {LARGE // 1000} kB", f"results of {SMALL} B", [], []),
    ]
    for number_of_round in range(rounds + 1):
        for cost, (workflow, done) in zip(costs, begun.items(), strict=True):
            elapsed, processor = tail(durable, connection, workflow, done, roles)
            if number_of_round:  # the first compiles the statements
                cost.elapsed.append(elapsed / TAIL)
                cost.processor.append(processor / TAIL)
    durable.liveness.leave()
    connection.close()
    return costs


def tail(
    durable: Durable, connection: psycopg.Connection, workflow: str, done: int, roles: Roles
) -> tuple[float, float]:
    """The seconds, of time and of processors, of a run whose first steps are done already."""
    run = durable.start(workflow, {})
    fill(connection, run.id, done)
    (token,) = waiting_tokens(connection)
    before, began = roles.look(), time.perf_counter()
    durable.engine.advance(token)
    elapsed, used = time.perf_counter() - began, roles.look().since(before)
    expect(str(run.status().status), "completed", "the run")
    return elapsed, used.all


def fill(connection: psycopg.Connection, run: UUID, steps: int) -> None:
    """Write journal rows as if the run had completed so many steps, and place it after them."""
    connection.execute(FILL, {"run": run, "worker": uuid4(), "steps": steps})
    connection.execute(PLACE, {"run": run, "next": f"step_{steps}"})
    connection.execute("VACUUM ANALYZE durable_journal, durable_token, durable_run")
