"""Postgres drops every connection of the engine in the middle of the work (P2, P3, P4)."""

from tests.apps.shop import STOCKTAKING_STEPS
from tests.brokers.shop import Shop

TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'celery_durable'
"""
HELD = "shelf30"


def test_no_handler_is_repeated_though_every_connection_is_terminated(shop: Shop) -> None:
    """A commit whose answer was lost is resolved by reading, a lost lock is taken again."""
    worker = shop.worker(concurrency=4)
    held = shop.start("stocktaking", **{HELD: "hold"})
    shop.wait_for(held, HELD)
    runs = [shop.start("stocktaking") for _ in range(6)]
    for unit in ("shelf1", "shelf20", "shelf40"):
        shop.wait_for(runs[0], unit)
        assert len(shop.query(TERMINATE)) > 4
    shop.open_gate(held)
    for run in (held, *runs):
        run.result(timeout=90)
        units = [f"shelf{number}" for number in range(1, STOCKTAKING_STEPS + 1)]
        assert [(entry.unit, entry.attempt) for entry in run.history()] == [(u, 1) for u in units]
        assert [entry.unit for entry in shop.ledger(run, event="begin")] == units
    assert worker.is_running
