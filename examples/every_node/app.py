"""An order with every kind of node in it, one of each.

Its input says how it ends: `{"ending": "shipped"}`, or `{"ending": "undone"}`, when the last step
gives up and everything before it is undone, the last first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery import Celery

from celery_durable import Context, Durable, GiveUp, Suspend
from examples import stage
from examples.every_node import ledger

app = Celery("every_node")
durable = Durable(app)
stage.configure(app)

LINES = ("anvil", "bellows", "crucible")
PRICE = 40
SHIPPED, UNDONE = "shipped", "undone"


def work(ctx: Context) -> dict[str, Any]:
    """What most steps here do, and their compensators."""
    ledger.write(durable, ctx)
    return {"done": ctx.unit}


def work_in_transaction(ctx: Context) -> dict[str, Any]:
    ledger.write_with_the_step(ctx)
    return {"done": ctx.unit}


# A step, and a transactional one.

reserve = durable.step(name="reserve", compensate=work)(work)

book = durable.step(name="book", transactional=True)(work_in_transaction)
book.compensate(transactional=True)(work_in_transaction)


# Parallel: two steps, and a workflow where a step is taken.

fraud = durable.step(name="fraud")(work)
price = durable.step(name="price", compensate=work)(work)
customs = durable.workflow("customs").step(work, name="declare").step(work, name="clear")


# Map: an item each.


@durable.step(compensate=work)
def pick(ctx: Context) -> dict[str, Any]:
    return {**work(ctx), "item": ctx.item}


# Route: by what the customer chose.


def pay_by(ctx: Context) -> str:
    return str(ctx.input.get("pay_by", "card"))


card = durable.step(name="card", compensate=work)(work)
invoice = durable.workflow("invoice").step(work, name="print").step(work, name="post")


# Loop: ask the bank until the money is there.


@durable.step
def ask_bank(ctx: Context) -> dict[str, Any]:
    return {**work(ctx), "received": ctx.item["received"] + 20}


# A step that waits for an answer in the middle.


@durable.step(compensate=work)
def inspect(ctx: Context) -> dict[str, Any] | Suspend:
    if not ctx.is_resumed:
        return Suspend({"photo": "crate.jpg"})
    return {**work(ctx), "photo": ctx.snapshot["photo"], "verdict": ctx.resume_data}


# A child workflow, which is undone with its parent; and a step with a time limit.

fulfilment = (
    durable.workflow("fulfilment")
    .step(durable.step(name="pack", compensate=work)(work))
    .step(durable.step(name="label", compensate=work)(work))
)


@durable.step(timeout=timedelta(minutes=1), compensate=work)
def weigh(ctx: Context) -> dict[str, Any]:
    ctx.progress(0.5, "on the scales")
    return work(ctx)


@durable.step
def ship(ctx: Context) -> dict[str, Any]:
    if ctx.input["ending"] == UNDONE:
        raise GiveUp("no such address")
    return work(ctx)


every_node = (
    durable.workflow("every_node")
    .step(reserve)
    .step(book)
    .parallel("checks", [fraud, price, customs])
    .map("lines", over=lambda _: LINES, handler=pick, max_concurrency=2, chunk=2)
    .route("payment", pay_by, {"card": card, "invoice": invoice})
    .loop(
        "bank",
        ask_bank,
        map_input=lambda _: {"received": 0},
        until=lambda result, _: result["received"] >= PRICE,
        feedback=lambda result: {"received": result["received"]},
        every=0.2,
        max_iterations=10,
    )
    .sleep("cool_down", 0.3)
    .wait_for_signal("sign_off", timeout=timedelta(days=3))
    .step(inspect)
    .child_workflow(
        "fulfil",
        fulfilment,
        map_input=lambda ctx: {"lines": [line["item"] for line in ctx.results["lines"]]},
        compensate="cascade",
    )
    .step(weigh)
    .step(ship)
    .returns(lambda ctx: {"ending": SHIPPED, "signed_off_by": ctx.results["sign_off"]["by"]})
)
