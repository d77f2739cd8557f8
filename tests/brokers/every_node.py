"""Runs of `examples.every_node`, as tests start, answer and compare them."""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from celery_durable.run import Run
from examples.every_node import ledger
from tests.addresses import conninfo
from tests.brokers.shop import Shop
from tests.waiting import wait_until

APP = "tests.apps.every_node:app"

ANSWERS: dict[str, Any] = {"sign_off": {"by": "the founder"}, "inspect": "sound"}

SHIPPED = {"ending": "shipped", "pay_by": "invoice"}
UNDONE = {"ending": "undone", "pay_by": "card"}

ENDS_WITHIN = 240.0
"""Seconds within which all runs of a test end, on a busy machine."""

AWAITED = """
    SELECT coalesce(r.root_run_id, r.id), t.awaits FROM durable_token t
    JOIN durable_run r ON r.id = t.run_id WHERE t.wait = 'signal'
"""

JOURNAL = """
    SELECT r.workflow, j.unit, j.outcome, j.result::text, j.error->>'type', j.error->>'message'
    FROM durable_journal j JOIN durable_run r ON r.id = j.run_id
    WHERE %s IN (r.id, r.root_run_id) ORDER BY j.seq
"""

ENDS = """
    SELECT workflow, status, result::text, error->>'type', error->>'message', error->>'unit'
    FROM durable_run WHERE %s IN (id, root_run_id) ORDER BY workflow
"""

LEDGER = f"""
    SELECT r.workflow, l.unit, l.pid FROM {ledger.ledger.name} l
    JOIN durable_run r ON r.id = l.run_id WHERE %s IN (r.id, r.root_run_id) ORDER BY l.id
"""


def start(shop: Shop, inputs: Sequence[dict[str, str]]) -> list[Run]:
    return shop.durable.start_many("every_node", inputs)


def see_through(shop: Shop, runs: Collection[Run]) -> None:
    """Send each run the signals that it waits for, once, until all of them have ended."""
    by_id = {run.id: run for run in runs}
    sent: set[tuple[Any, str]] = set()

    def all_ended() -> bool:
        for run_id, signal in shop.query(AWAITED):
            if run_id in by_id and (run_id, signal) not in sent:
                assert by_id[run_id].resume(signal, ANSWERS[signal]).accepted
                sent.add((run_id, signal))
        return not unfinished(shop, runs)

    wait_until(all_ended, timeout=ENDS_WITHIN, message=lambda: str(standings(shop, runs)))


def unfinished(shop: Shop, runs: Collection[Run]) -> int:
    ((count,),) = shop.query(
        "SELECT count(*) FROM durable_run WHERE id = ANY(%s) AND finished_at IS NULL",
        [run.id for run in runs],
    )
    return int(count)


def standings(shop: Shop, runs: Collection[Run]) -> Sequence[tuple[Any, ...]]:
    """Where the unfinished among `runs` stand."""
    return shop.query(
        """SELECT t.run_id, t.unit, t.wait, t.awaits, t.attempt, t.crashes, t.claimed_by
           FROM durable_token t JOIN durable_run r ON r.id = t.run_id
           WHERE coalesce(r.root_run_id, r.id) = ANY(%s)""",
        [run.id for run in runs],
    )


def account(shop: Shop, run: Run) -> tuple[frozenset[Any], tuple[Any, ...]]:
    """What two runs of one input have in common: the units and results of the run and of its
    children, and how each ended.
    """
    units = shop.query(JOURNAL, run.id)
    assert len(units) == len({unit[:2] for unit in units})
    return frozenset(units), tuple(shop.query(ENDS, run.id))


def units(shop: Shop, run: Run) -> set[tuple[str, str, str]]:
    """Workflow, unit and outcome."""
    return {(row[0], row[1], row[2]) for row in shop.query(JOURNAL, run.id)}


def done(shop: Shop, run: Run) -> list[tuple[str, str]]:
    """Workflow and unit of each time a handler did its work."""
    return [(row[0], row[1]) for row in shop.query(LEDGER, run.id)]


def pids(shop: Shop, run: Run) -> set[int]:
    return {row[2] for row in shop.query(LEDGER, run.id)}


def assert_undone_in_reverse(shop: Shop, run: Run) -> None:
    """Every compensation follows those of the units that completed later."""
    completed = [row[1] for row in shop.query(JOURNAL, run.id) if row[0] == "every_node"]
    undone = [unit.removesuffix(UNDO) for unit in completed if unit.endswith(UNDO)]
    assert undone == [unit for unit in reversed(completed) if unit in undone]


UNDO = "#compensate"


def prepare(shop: Shop, tables: str = "") -> None:
    """The tables that handlers and workers write to."""
    ledger.tables.create_all(shop.durable.database.engine)
    if tables:
        with psycopg.connect(conninfo(shop.database_url), autocommit=True) as connection:
            connection.execute(tables.encode())
