"""Steps with time limits, on the ledger and the gates of `tests.apps.shop`.

The input says what becomes of the first try of `work`: "heed" waits, and lets the time limit end
it; "ignore" goes on waiting when the soft limit raises; "deaf" goes on whatever is raised; "late"
waits, and then returns; "crash" kills its process, once; "beat" writes to our tables all the time;
"book" waits in a statement of its transaction.
"""

import asyncio
import json
import os
import signal
import time
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery

from celery_durable import Durable, RetryPolicy
from tests.apps import configure
from tests.apps.shop import CONFIG, HELD_AT_MOST, connected, is_open, note
from tests.waiting import wait_until

LIMIT = 1.0
"""Seconds."""

AT_ONCE = RetryPolicy(max_attempts=2, backoff="fixed", initial=0.01, jitter=False)


def wait_at_gate(ctx: Any) -> None:
    with connected() as ledger:
        wait_until(lambda: is_open(ledger, ctx), timeout=HELD_AT_MOST, message="the gate")


def keep_waiting(ctx: Any, despite: type[BaseException]) -> None:
    """As a handler does that takes any exception for one of its own."""
    while True:
        try:
            return wait_at_gate(ctx)
        except despite:
            write(ctx, "ignored")


def write(ctx: Any, event: str) -> int:
    """A line in the ledger; returns how many such there are."""
    with connected() as ledger:
        note(ledger, ctx, event)
        same = (ctx.run_id, ctx.unit, event)
        return ledger.execute(
            "SELECT FROM ledger WHERE (run_id, unit, event) = (%s, %s, %s)", same
        ).rowcount


def work(ctx: Any) -> dict[str, Any]:
    is_first = write(ctx, "begin") == 1
    if ctx.attempt == 1 or ctx.input.get("always"):
        match ctx.input["first"]:
            case "heed" | "late":
                wait_at_gate(ctx)
            case "ignore":
                keep_waiting(ctx, SoftTimeLimitExceeded)
            case "deaf":
                keep_waiting(ctx, BaseException)
            case "beat":
                while True:
                    ctx.heartbeat({"still": "here"})
            case "book":
                ctx.session.connection().exec_driver_sql("SELECT pg_sleep(60)")
            case "crash" if is_first:
                os.kill(os.getpid(), signal.SIGKILL)
    write(ctx, "end")
    return {"attempt": ctx.attempt, "pid": os.getpid()}


def linger(ctx: Any) -> dict[str, Any]:
    """An ordinary step that takes longer than the limit of the one before it."""
    write(ctx, "begin")
    until = time.monotonic() + 2 * LIMIT
    wait_until(lambda: time.monotonic() > until, timeout=10 * LIMIT)
    write(ctx, "end")
    return {"pid": os.getpid()}


async def effect(ctx: Any) -> None:
    await asyncio.sleep(1.5 * LIMIT)
    write(ctx, "effect")


async def wait_async(ctx: Any) -> None:
    """It never ends by itself, and leaves behind what does something later."""
    write(ctx, "begin")
    left = asyncio.create_task(effect(ctx))
    await asyncio.gather(asyncio.Event().wait(), left)


async def linger_async(ctx: Any) -> None:
    """Whatever is left in the loop of its process may go on meanwhile."""
    write(ctx, "begin")
    await asyncio.sleep(1.5 * LIMIT)


def define(durable: Durable) -> None:
    durable.workflow("timed").step(work, name="work", timeout=LIMIT, retry=AT_ONCE).step(
        linger, name="linger"
    )
    durable.workflow("booked").step(
        work, name="work", timeout=LIMIT, retry=AT_ONCE, transactional=True
    )
    durable.workflow("awaiting").step(wait_async, timeout=LIMIT, retry=RetryPolicy(1))
    durable.workflow("lingering").step(linger_async)
    durable.workflow("unlimited").step(linger, name="linger")


def nap() -> None:
    """An ordinary task."""
    time.sleep(60)


app = configure(Celery("timed"))
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
app.task(nap, name="nap")
durable = Durable(app)
define(durable)
