"""Every kind of node, as users write them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from celery_durable import Context, Durable, Step, Workflow

durable = Durable()


@durable.step(timeout=30, suspends=True)
def fraud(ctx: Context) -> dict[str, bool]:
    return {"ok": bool(ctx.input)}


@fraud.compensate(timeout=timedelta(minutes=1))
def unfraud(ctx: Context) -> None: ...


@durable.step(timeout=timedelta(seconds=30))
async def price(ctx: Context) -> int:
    return len(ctx.workflow)


def plain(ctx: Context) -> list[str]:
    return [ctx.unit]


def rail(ctx: Context) -> str:
    return ctx.unit


def is_done(result: dict[str, Any], done: int) -> bool:
    return bool(result["done"]) or done > 5


def following(result: dict[str, Any]) -> int:
    return len(result)


def until_when(ctx: Context) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=ctx.attempt)


class Policy:
    def __call__(self, ctx: Context) -> str:
        return ctx.unit


@dataclass
class Approval:
    ok: bool


def managers(ctx: Context) -> set[str]:
    return {ctx.workflow}


@durable.step
def mail(ctx: Context) -> str:
    assert_type(ctx.callback_url("asked", expires=timedelta(days=7)), str)
    return ctx.callback_url("asked", data={"ok": True}, key="ann")


stock = durable.workflow("stock").step(plain)

assert_type(fraud, Step[Any, dict[str, bool]])
undo: Callable[[Context], None] = unfraud

branches: list[Step] = [fraud, price]
cases: dict[str, Callable[[Context], Any]] = {"plain": plain, "fraud": fraud}

order = (
    durable.workflow("order")
    .step(fraud, timeout=timedelta(seconds=5), suspends=False)
    .step(stock, name="goods")
    .parallel("sequence", [fraud, price])
    .parallel("mixed", (plain, price, stock), fail_fast=True)
    .parallel("mapping", {"fraud": fraud, "stock": stock, "any": lambda ctx: ctx.input})
    .parallel("list", branches)
    .parallel("dict", cases)
    .map("lines", over=lambda ctx: ctx.input["lines"], handler=price, max_concurrency=10, chunk=5)
    .map("kept", over=plain, handler=stock, on_error="keep")
    .map("tolerant", over=plain, handler=stock, tolerate=3)
    .map("few", over=plain, handler=stock, tolerate="5%")
    .route("rail", rail, {"wire": fraud, "card": stock})
    .route("some", Policy(), cases, default="wire")
    .route("none", rail, cases, default=None)
    .route("step", rail, cases, default=price)
    .route("workflow", rail, cases, default=stock)
    .loop("poll", fraud, until=lambda result, _n: result["done"], max_iterations=20, every=5)
    .loop(
        "agent",
        stock,
        until=is_done,
        feedback=following,
        map_input=plain,
        max_iterations=3,
        every=timedelta(seconds=1),
        on_exhausted="fail",
    )
    .sleep("cooldown", timedelta(hours=24))
    .sleep("seconds", 1.5)
    .sleep("moment", datetime(2030, 1, 1, tzinfo=UTC))
    .sleep("function", until_when)
    .wait_for_signal("signoff")
    .wait_for_signal("asked", schema=Approval, assignees=["ann", "bob"])
    .wait_for_signal("found", schema=Approval, assignees=managers)
    .wait_for_signal("again", "founder-signoff", timeout=timedelta(days=3), on_timeout="continue")
    .child_workflow("fulfil", "fulfilment", map_input=lambda ctx: {"sku": ctx.input["sku"]})
    .child_workflow("old", "fulfilment", version=2)
    .child_workflow("undone", stock, compensate="cascade")
)

assert_type(order, Workflow)
assert_type(order.steps, tuple[str, ...])
assert_type(order.children, frozenset[tuple[str, int | None]])
