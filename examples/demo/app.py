"""The shop: a Celery app with one durable workflow.

An order reserves the goods, charges the customer, books a courier, ships and confirms. When it
cannot be shipped, what was done for it is undone in reverse order. The handlers call the outside
world, which here is `ledger.call`: like a payment provider it takes an idempotency key, remembers
it, and does nothing a second time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from celery import Celery

from celery_durable import Context, Durable, GiveUp, RetryPolicy
from examples.demo import ledger

app = Celery("demo")
durable = Durable(app)

SOON = RetryPolicy(max_attempts=5, initial=0.4)


class NoAnswer(Exception):
    """The outside world did not answer; it is asked again."""


@durable.step
def reserve(ctx: Context) -> dict[str, str]:
    return {"reservation": ledger.call(ctx)}


@reserve.compensate
def release(ctx: Context) -> None:
    ledger.call(ctx)


@durable.step(retry=SOON)
def charge(ctx: Context) -> dict[str, str]:
    if ctx.input["is_unlucky"] and ctx.attempt == 1:
        ledger.fail(ctx, NoAnswer("the payment provider does not answer"))
    return {"payment": ledger.call(ctx)}


@charge.compensate(retry=SOON)
def refund(ctx: Context) -> None:
    if ctx.input["is_unlucky"] and ctx.attempt == 1:
        ledger.fail(ctx, NoAnswer("the payment provider does not answer"))
    ledger.call(ctx)


@durable.step
def book(ctx: Context) -> dict[str, str]:
    return {"courier": ledger.call(ctx)}


@book.compensate
def unbook(ctx: Context) -> None:
    ledger.call(ctx)


@durable.step(retry=SOON)
def ship(ctx: Context) -> dict[str, str]:
    if not ctx.input["is_deliverable"]:
        again = ctx.attempt == 1
        ledger.fail(ctx, NoAnswer("nobody opens") if again else GiveUp("no such address"))
    return {"parcel": ledger.call(ctx)}


@durable.step
def confirm(ctx: Context) -> None:
    ledger.call(ctx)


order = durable.workflow("order").step(reserve).step(charge).step(book).step(ship).step(confirm)


def configure(environment: Mapping[str, str]) -> None:
    """Where this demo's Postgres and broker are; a worker process finds it in its environment."""
    app.conf.update(
        durable_database_url=environment["DEMO_DATABASE_URL"],
        durable_schema=environment["DEMO_SCHEMA"],
        durable_queue=environment["DEMO_QUEUE"],
        # Every step is a message of its own, so that the broker has much to lose.
        durable_inline_steps=1,
        broker_url=environment["DEMO_BROKER_URL"],
        broker_transport_options=json.loads(environment["DEMO_TRANSPORT_OPTIONS"]),
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        # Nobody asks these workers anything: no queues for that in somebody's broker.
        worker_enable_remote_control=False,
    )
    ledger.open_at(environment["DEMO_DATABASE_URL"], environment["DEMO_SCHEMA"])


if "DEMO_SCHEMA" in os.environ:
    configure(os.environ)
