"""Defining workflows, as the README has it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

from celery import Celery
from celery.canvas import Signature

from celery_durable import (
    Context,
    Durable,
    GiveUp,
    RetryLater,
    RetryPolicy,
    Run,
    Step,
    Workflow,
)


class CardDeclined(Exception):
    pass


@dataclass
class Order:
    sku: str
    to: str


app = Celery("shop")
durable = Durable(app)
later = Durable()
later.init_app(app)


@durable.step
def reserve(ctx: Context[Order]) -> dict[str, str]:
    return {"reservation": ctx.input.sku + ctx.idempotency_key}


@reserve.compensate
def release(ctx: Context) -> None:
    ctx.logger.info("released %s", ctx.result["reservation"])


@durable.step(retry=RetryPolicy(max_attempts=5, give_up_on=(CardDeclined,)), queue="payments")
async def charge(ctx: Context) -> str:
    assert_type(ctx.result_of(reserve), dict[str, str])
    if ctx.attempt > 3:
        raise RetryLater(60, counts=False, reason="busy")
    raise GiveUp("no money")


@charge.compensate(retry=RetryPolicy(backoff="fixed"), queue="payments", transactional=True)
async def refund(ctx: Context) -> None:
    ctx.session.flush()


@durable.step(name="book", transactional=True, priority=5, compensate=release)
def write_ledger(ctx: Context) -> None:
    assert_type(ctx.result_of(charge), str)
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
    .step(durable.step_of(send_email, args=lambda ctx: (ctx.input.to,), queue="mail"), name="mail")
    .returns(summary)
)

assert_type(reserve, Step[Order, dict[str, str]])
started: Step[Any, Coroutine[Any, Any, str]] = charge
assert_type(write_ledger, Step[Any, None])
undo: Callable[[Context], None] = release
undo_async: Callable[[Context], Coroutine[Any, Any, None]] = refund
assert_type(order, Workflow[Order, dict[str, Any]])
assert_type(order.start(Order("A1", "ada")), Run[dict[str, Any]])
assert_type(order.start({"sku": "A1", "to": "ada"}).result(), dict[str, Any])
assert_type(durable.start(order, Order("A1", "ada")), Run[dict[str, Any]])
assert_type(durable.workflow("loose").step(reserve).start(7).result(), Any)
assert_type(durable.from_canvas("canvas", Signature("shop.mail"), version=2), Workflow)
signature: Signature = order.s({"to": "ada"}, key="a", schedule="nightly", overlap="skip")
assert_type(order.name, str)
assert_type(order.version, int)
assert_type(order.steps, tuple[str, ...])


async def begin() -> None:
    assert_type(await durable.astart(order, Order("A1", "ada")), Run[dict[str, Any]])
    assert_type(await order.start(Order("A1", "ada")).aresult(), dict[str, Any])
    assert_type(await durable.astart("order"), Run)
    assert_type(await order.astart(Order("A1", "ada"), key="a"), Run[dict[str, Any]])
    assert_type(await order.astart_many([Order("A1", "ada")]), list[Run[dict[str, Any]]])
    assert_type(await order.arun(key="a"), Run[dict[str, Any]])
    assert_type(await durable.arun(workflow="order", key="a"), Run)
    await order.astart(ky="a")  # type: ignore[call-arg]
