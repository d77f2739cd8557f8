"""Defining workflows, as the README has it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

from celery import Celery

from celery_durable import Context, Durable, GiveUp, RetryLater, RetryPolicy, Step, Workflow


class CardDeclined(Exception):
    pass


@dataclass
class Order:
    sku: str


app = Celery("shop")
durable = Durable(app)
later = Durable()
later.init_app(app)


@durable.step
def reserve(ctx: Context) -> dict[str, str]:
    return {"reservation": ctx.input["sku"] + ctx.idempotency_key}


@reserve.compensate
def release(ctx: Context) -> None:
    ctx.logger.info("released %s", ctx.result["reservation"])


@durable.step(retry=RetryPolicy(max_attempts=5, give_up_on=(CardDeclined,)), queue="payments")
async def charge(ctx: Context) -> str:
    if ctx.attempt > 3:
        raise RetryLater(60, counts=False, reason="busy")
    raise GiveUp("no money")


@charge.compensate(retry=RetryPolicy(backoff="fixed"), queue="payments", transactional=True)
async def refund(ctx: Context) -> None:
    ctx.session.flush()


@durable.step(name="book", transactional=True, priority=5, compensate=release)
def write_ledger(ctx: Context) -> None:
    ctx.session.flush()


def send_email(to: str, *, subject: str) -> None: ...


def summary(ctx: Context) -> dict[str, Any]:
    return dict(ctx.results)


order = (
    durable.workflow("order", version=1, input=Order)
    .step(reserve)
    .step(charge, queue="vip", priority=9)
    .step(write_ledger, name="write")
    .step(send_email, args=lambda ctx: (ctx.input.to,), kwargs=lambda _ctx: {"subject": "Hi"})
    .step(lambda ctx: ctx.input, name="plain")
    .returns(summary)
)

assert_type(reserve, Step)
assert_type(charge, Step)
assert_type(write_ledger, Step)
undo: Callable[[Context], None] = release
undo_async: Callable[[Context], Coroutine[Any, Any, None]] = refund
assert_type(order, Workflow)
assert_type(order.name, str)
assert_type(order.version, int)
assert_type(order.steps, tuple[str, ...])
