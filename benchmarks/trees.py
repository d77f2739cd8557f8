"""What it costs to cancel a tree of runs, and to look at one whose results are large."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from uuid import UUID, uuid4

import psycopg

from benchmarks.bench import Bench
from benchmarks.engine import durable_on, plain
from benchmarks.section import Section, ratio
from celery_durable import Context, Durable, Run

CHILDREN, EACH = 50, 100
"""Children of the run at the top, and of each of these."""

LARGE, ITEMS = 1_000_000, 100
"""Characters of a result, and how many there are of them."""

TREE = """
WITH level AS (
    SELECT n, CASE n WHEN 0 THEN %(top)s ELSE gen_random_uuid() END AS id,
        CASE WHEN n > %(children)s THEN (n - 1) %% %(children)s + 1 WHEN n > 0 THEN 0 END AS above
    FROM generate_series(0, %(children)s * (%(each)s + 1)) AS n
), runs AS (
    INSERT INTO durable_run (id, workflow, version, status, input, parent_run_id, root_run_id)
    SELECT level.id, 'w', 1, 'running', '{}', up.id, CASE WHEN level.n > 0 THEN %(top)s::uuid END
    FROM level LEFT JOIN level up ON up.n = level.above
)
INSERT INTO durable_token (id, run_id, node, unit, queue, fence, wait, awaits, waiting_since)
SELECT gen_random_uuid(), id, 'n', 'n', 'durable', gen_random_uuid(), 'signal', 'go', now()
FROM level
"""

END_RUNS = """
UPDATE durable_run SET status = 'cancelled', finished_at = now(), updated_at = now()
WHERE root_run_id = %(top)s OR id = %(top)s
"""
END_TOKENS = """
DELETE FROM durable_token t USING durable_run r
WHERE r.id = t.run_id AND (r.root_run_id = %(top)s OR r.id = %(top)s)
"""


@dataclass(frozen=True, slots=True)
class Against:
    """Seconds that something took, and what it is held against."""

    what: str
    seconds: float
    against: str
    floor: float


def measure(bench: Bench) -> Iterator[Section]:
    with bench.services.postgres.database() as name:
        measured = compare(bench.services.postgres.url(name))
    yield Section(
        title="trees and large results: ms",
        columns=("what", "ms", "against", "ms", "ratio"),
        rows=[
            (
                one.what,
                f"{1000 * one.seconds:.1f}",
                one.against,
                f"{1000 * one.floor:.1f}",
                ratio(one.seconds, one.floor),
            )
            for one in measured
        ],
        record=[asdict(one) for one in measured],
    )


def compare(url: str) -> list[Against]:
    """Each once: a tree is cancelled once, and a look is long."""
    durable = durable_on(url)
    with plain(url) as connection:
        trees = [_tree(connection) for _ in range(2)]
        connection.execute("VACUUM ANALYZE durable_run, durable_token")
        cancel = _seconds(lambda: durable.cancel(trees[0]))
        floor = _seconds(lambda: _end(connection, trees[1]))
    runs = CHILDREN * (EACH + 1) + 1
    run = _large(durable)
    whole = _seconds(run.status)
    measured = [
        Against(f"cancel of a tree of {runs} runs", cancel, "the same rows, bare", floor),
        Against(
            f"status(results=False) of {ITEMS} MB",
            _seconds(lambda: run.status(results=False)),
            "status()",
            whole,
        ),
        Against(
            f"history(limit=10) of {ITEMS} MB",
            _seconds(lambda: run.history(limit=10, results=False)),
            "history()",
            _seconds(run.history),
        ),
    ]
    durable.liveness.leave()
    return measured


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _tree(connection: psycopg.Connection) -> UUID:
    top = uuid4()
    connection.execute(TREE.encode(), {"top": top, "children": CHILDREN, "each": EACH})
    return top


def _end(connection: psycopg.Connection, top: UUID) -> None:
    with connection.transaction():
        for statement in (END_RUNS, END_TOKENS):
            connection.execute(statement.encode(), {"top": top})


def _large(durable: Durable) -> Run:
    """A completed run of a map with large results."""

    def item(ctx: Context) -> str:
        return f"{ctx.item}" * LARGE

    durable.workflow("large").map("m", over=lambda _: [7] * ITEMS, handler=item)
    run = durable.start("large")
    with plain(durable.settings.database_url) as connection:
        while tokens := connection.execute("SELECT id FROM durable_token").fetchall():
            for (token,) in tokens:
                durable.engine.advance(token)
    return run
