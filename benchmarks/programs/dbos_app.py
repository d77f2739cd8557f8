"""DBOS workflows. Found best of eleven configurations: a queue, two processes, eight each, a poll
of 50 ms.
"""

from __future__ import annotations

from typing import Any

from dbos import DBOS

from benchmarks.programs.wire import DATABASE, STEPS

QUEUE, VERSION = "bench", "1"
EACH, POLL = 8, 0.05


def configure(executor: str) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": DATABASE.replace("postgresql:", "postgresql+psycopg:", 1),
            "application_version": VERSION,
            "executor_id": executor,
            "log_level": "ERROR",
            "run_migrations": False,
        }
    )


def register_queue() -> None:
    DBOS.register_queue(QUEUE, worker_concurrency=EACH, polling_interval_sec=POLL)


@DBOS.step()
def small() -> dict[str, bool]:
    return {"ok": True}


@DBOS.workflow()
def linear() -> dict[str, bool]:
    for _ in range(STEPS):
        small()
    return {"ok": True}


@DBOS.workflow()
def item(number: int) -> int:
    small()
    return number


@DBOS.workflow()
def fan(items: int) -> int:
    """Fork into workflows on the queue, and join."""
    handles: list[Any] = [DBOS.enqueue_workflow(QUEUE, item, number) for number in range(items)]
    return len([handle.get_result(polling_interval_sec=POLL) for handle in handles])
