"""Starting runs and looking at them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from celery_durable import (
    Durable,
    JournalEntry,
    Run,
    RunFailed,
    RunSnapshot,
    RunSummary,
    Status,
    Workflow,
)


def start(durable: Durable, order: Workflow, run_id: UUID) -> None:
    assert_type(durable.start(order, {"sku": "A1"}, key="order-42"), Run)
    assert_type(durable.start("order", delay=timedelta(hours=1), tags={"shop": "b"}), Run)
    assert_type(durable.start_many(order, [{"sku": "A1"}], priority=3), list[Run])
    assert_type(durable.run(run_id), Run)
    assert_type(durable.run(workflow="order", key="order-42"), Run)
    assert_type(order.start({"sku": "A1"}, key="order-42", delay=1.5), Run)
    assert_type(order.start_many([{"sku": "A1"}], session=object()), list[Run])
    assert_type(order.start(key="k", on_conflict="cancel", reuse_key="after_failure"), Run)
    durable.start(order, key="k", reuse_key="sometimes")  # type: ignore[arg-type]
    assert_type(durable.start(order, timeout=60, expires=timedelta(hours=1)), Run)
    assert_type(order.start(timeout=timedelta(hours=1), expires=60.5), Run)
    assert_type(order.run(key="order-42"), Run)
    assert_type(order.run(str(run_id)), Run)


async def send(durable: Durable, signature: Any, session: object) -> None:
    assert_type(durable.send_task(signature, session=session), str)
    assert_type(await durable.asend_task(signature), str)
    with durable.joining(session):
        durable.start("order")
    durable.send_task(signature, countdown=3)  # type: ignore[call-arg]


def look(durable: Durable, run: Run) -> None:
    assert_type(run.id, UUID)
    assert_type(run.created, bool)
    assert_type(run.status(), RunSnapshot)
    assert_type(run.history(), Sequence[JournalEntry])
    assert_type(run.result(timeout=5), Any)
    assert_type(run.result(timedelta(seconds=5)), Any)
    assert_type(durable.status(str(run.id)), RunSnapshot)
    assert_type(durable.history(run.id), Sequence[JournalEntry])
    assert_type(durable.list(status="failed", tags={"shop": "b"}), Sequence[RunSummary])
    assert_type(durable.recover(), int)
    run.cancel(compensate=True, reason="out of stock")
    durable.cancel(run.id, session=object())


async def begin(durable: Durable, order: Workflow, run: Run) -> None:
    assert_type(await durable.astart(order, {"sku": "A1"}, key="order-42"), Run)
    assert_type(await durable.astatus(run.id, results=False), RunSnapshot)
    assert_type(await asyncio.create_task(durable.astart(order)), Run)
    assert_type(await durable.acancel(run.id, reason="out of stock"), None)
    async with asyncio.TaskGroup() as group:
        assert_type(await group.create_task(durable.arecover()), int)


def begin_anywhere(durable: Durable) -> None:
    assert_type(asyncio.run(durable.astart("order")), Run)
    asyncio.run(durable.amigrate())


def read(snapshot: RunSnapshot, entry: JournalEntry, summary: RunSummary) -> None:
    assert_type(snapshot.run_id, UUID)
    assert_type(snapshot.status, Status)
    assert_type(snapshot.current, tuple[str, ...])
    assert_type(snapshot.results, Mapping[str, Any])
    assert_type(snapshot.wake_at, datetime | None)
    assert_type(snapshot.times_out_at, datetime | None)
    assert_type(snapshot.children, tuple[RunSummary, ...])
    assert_type(summary.finished_at, datetime | None)
    assert_type(entry.attempt, int)
    assert_type([failure.error.traceback for failure in entry.failures], list[str])
    if snapshot.status is Status.FAILED and snapshot.error is not None:
        assert_type(snapshot.error.unit, str)
    snapshot.attempt = 2  # type: ignore[misc]


def wait(run: Run) -> str:
    try:
        return str(run.result(5))
    except RunFailed as failed:
        assert_type(failed.run_id, UUID | None)
        return failed.error.message if failed.error else ""


async def twins(durable: Durable, order: Workflow, run: Run) -> None:
    assert_type(await durable.astart(order, {"sku": "A1"}, key="order-42"), Run)
    assert_type(await durable.astart_many(order, [1, 2]), list[Run])
    assert_type(await durable.astatus(run.id), RunSnapshot)
    assert_type(await durable.alist(workflow="order"), Sequence[RunSummary])
    assert_type(await durable.ahistory(run.id), Sequence[JournalEntry])
    assert_type(await durable.arecover(), int)
    assert_type(await run.astatus(), RunSnapshot)
    assert_type(await run.ahistory(), Sequence[JournalEntry])
    await run.acancel(compensate=True)
    await durable.acancel(run.id)
    await durable.amigrate()
