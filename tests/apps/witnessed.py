"""A workflow whose handlers write into a file, so that they need no database for it."""

import os
import threading
from typing import Any

from celery import Celery

from celery_durable import Durable, RetryPolicy
from tests.apps import configure

WITNESS = "TEST_WITNESS"
WORKS_FOR = 0.02
"""Seconds a unit takes: some are always in hand."""

ONCE = RetryPolicy(1)


def witness(ctx: Any) -> None:
    """One line, which other processes cannot split."""
    line = f"{ctx.run_id} {ctx.unit} {os.getpid()}\n"
    file = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def work(ctx: Any) -> str:
    witness(ctx)
    threading.Event().wait(WORKS_FOR)
    return f"{ctx.unit} done"


def read(ctx: Any) -> dict[str, Any]:
    """What it reads, it waits for: there is no second attempt."""
    witness(ctx)
    return dict(ctx.results)


def book(ctx: Any) -> None:
    witness(ctx)
    ctx.session.connection().exec_driver_sql(
        "INSERT INTO booked (run_id, unit) VALUES (%s, %s)", (ctx.run_id, ctx.unit)
    )


def define(durable: Durable) -> None:
    step = durable.step(retry=ONCE)(work)
    (
        durable.workflow("steady")
        .step(work, name="a", retry=ONCE)
        .step(work, name="b", retry=ONCE)
        .step(book, name="book", transactional=True, retry=ONCE)
        .parallel("both", {"x": step, "y": step})
        .step(read, name="read", retry=ONCE)
        .step(work, name="last", retry=ONCE)
    )


app = configure(Celery("witnessed"))
durable = Durable(app)
define(durable)
