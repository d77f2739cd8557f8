"""Mistakes that a type checker is to find; an `ignore` that is not needed is an error itself."""

from dataclasses import dataclass

from celery_durable import Context, Durable, RetryPolicy, Run, Workflow


@dataclass
class Order:
    sku: str


@dataclass
class Invoice:
    number: int


def handler(ctx: Context) -> None: ...


def of_an_invoice(ctx: Context[Invoice]) -> int:
    return ctx.input.number


def of_two(ctx: Context, more: int) -> None: ...


def define(durable: Durable, order: Workflow) -> None:
    durable.workflow(7)  # type: ignore[call-overload]
    durable.workflow("order", version="2")  # type: ignore[call-overload]
    durable.workflow("order", revision=2)  # type: ignore[call-overload]
    durable.step(retry=3)  # type: ignore[call-overload]
    durable.step(of_two)  # type: ignore[arg-type]
    durable.step("handler")  # type: ignore[call-overload]
    durable.step(qeue="payments")(handler)  # type: ignore[call-overload]
    durable.step(timeout="1")(handler)  # type: ignore[call-overload]
    durable.step(suspends=1)(handler)  # type: ignore[call-overload]
    durable.step(handler).compensate(timeout="1")(handler)  # type: ignore[call-overload]
    durable.step(handler).compensate(suspends=True)(handler)  # type: ignore[call-overload]
    order.step("handler")  # type: ignore[call-overload]
    order.step(handler, timeout="1")  # type: ignore[call-overload]
    order.step(handler, suspends="yes")  # type: ignore[call-overload]
    order.returns({"ok": True})  # type: ignore[call-overload]
    order.step(print, args=(1, 2))  # type: ignore[call-overload]
    order.returns(of_two)  # type: ignore[arg-type]
    order.plan = None  # type: ignore[assignment]


def inputs(durable: Durable, order: Workflow[Order, str], run: Run[str]) -> None:
    order.step(of_an_invoice)  # type: ignore[arg-type]
    order.step(lambda ctx: ctx.input.number)  # type: ignore[attr-defined]
    order.parallel("checks", [of_an_invoice])  # type: ignore[list-item]
    order.map("lines", over=of_an_invoice, handler=handler)  # type: ignore[arg-type]
    order.returns(of_an_invoice)  # type: ignore[arg-type]
    order.start(Invoice(7))  # type: ignore[arg-type]
    order.start_many([Invoice(7)])  # type: ignore[list-item]
    durable.start(order, Invoice(7))  # type: ignore[misc]
    number: int = order.start(Order("A1")).result()  # type: ignore[assignment]
    number = run.retry().result()  # type: ignore[assignment]
    durable.step(of_an_invoice)(number)  # type: ignore[arg-type]


def keywords(durable: Durable, order: Workflow, run: Run) -> None:
    order.step(handler, qeue="vip")  # type: ignore[call-overload]
    order.step(order, timeout=3)  # type: ignore[call-overload]
    order.step(of_two)  # type: ignore[arg-type]
    run.cancel(compensates=True)  # type: ignore[call-arg]
    run.resume("signoff", {}, keys="a")  # type: ignore[call-arg]
    run.retry(from_="charge")  # type: ignore[call-arg]
    run.history(limits=3)  # type: ignore[call-arg]
    durable.list(status="done")  # type: ignore[arg-type]
    durable.prune(status="done")  # type: ignore[arg-type]
    durable.bulk("cancel", status="done")  # type: ignore[arg-type]
    durable.bulk("destroy")  # type: ignore[arg-type]


async def async_keywords(durable: Durable, order: Workflow[Order, str], run: Run) -> None:
    await durable.astart(order, ky="order-42")  # type: ignore[call-arg]
    await durable.acancel(run.id, compensates=True)  # type: ignore[call-arg]
    await durable.aresume(run.id, "signoff", keys="a")  # type: ignore[call-arg]
    await run.acancel(compensates=True)  # type: ignore[call-arg]
    await run.aresume("signoff", {}, keys="a")  # type: ignore[call-arg]
    await run.aretry(from_="charge")  # type: ignore[call-arg]
    await run.astatus(result=False)  # type: ignore[call-arg]


def branch(order: Workflow) -> None:
    order.parallel("checks")  # type: ignore[call-arg]
    order.parallel("checks", "handler")  # type: ignore[arg-type]
    order.parallel("checks", {handler})  # type: ignore[arg-type]
    order.parallel("checks", [handler, "handler"])  # type: ignore[list-item]
    order.parallel("checks", {1: handler})  # type: ignore[dict-item]
    order.parallel("checks", {"two": of_two})  # type: ignore[dict-item]
    order.parallel("checks", [handler], fail_fast="yes")  # type: ignore[arg-type]
    order.map("lines", handler=handler)  # type: ignore[call-arg]
    order.map("lines", over=[1, 2], handler=handler)  # type: ignore[arg-type]
    order.map("lines", over=handler, handler="pick")  # type: ignore[arg-type]
    order.map("lines", over=handler, handler=handler, max_concurrency=1.5)  # type: ignore[arg-type]
    order.map("lines", over=handler, handler=handler, on_error="drop")  # type: ignore[arg-type]
    order.route("rail", "wire", {"wire": handler})  # type: ignore[arg-type]
    order.route("rail", handler, [handler])  # type: ignore[arg-type]
    order.route("rail", handler, {"wire": "handler"})  # type: ignore[dict-item]
    order.route("rail", handler, {"wire": handler}, default=7)  # type: ignore[arg-type]


def repeat_and_wait(order: Workflow) -> None:
    order.loop("poll", handler)  # type: ignore[call-arg]
    order.loop("poll", handler, max_iterations="3")  # type: ignore[arg-type]
    order.loop("poll", handler, max_iterations=3, until=handler)  # type: ignore[arg-type]
    order.loop("poll", handler, max_iterations=3, feedback=of_two)  # type: ignore[arg-type]
    order.loop("poll", handler, max_iterations=3, every="5s")  # type: ignore[arg-type]
    order.loop("poll", handler, max_iterations=3, on_exhausted="stop")  # type: ignore[arg-type]
    order.sleep("nap", "1h")  # type: ignore[arg-type]
    order.sleep("nap", None)  # type: ignore[arg-type]
    order.wait_for_signal("signoff", 7)  # type: ignore[arg-type]
    order.wait_for_signal("signoff", timeout="3d")  # type: ignore[arg-type]
    order.wait_for_signal("signoff", on_timeout="stop")  # type: ignore[arg-type]
    order.wait_for_signal("signoff", schema={"ok": bool})  # type: ignore[arg-type]
    order.wait_for_signal("signoff", assignees=7)  # type: ignore[arg-type]
    order.child_workflow("fulfil", handler)  # type: ignore[arg-type]
    order.child_workflow("fulfil", order, version="2")  # type: ignore[arg-type]
    order.child_workflow("fulfil", order, map_input={})  # type: ignore[arg-type]
    order.child_workflow("fulfil", order, compensate=True)  # type: ignore[arg-type]


def policy() -> None:
    RetryPolicy(max_attempts="3")  # type: ignore[arg-type]
    RetryPolicy(backoff="quadratic")  # type: ignore[arg-type]
    RetryPolicy(give_up_on=(ValueError(),))  # type: ignore[arg-type]
    RetryPolicy().max_attempts = 4  # type: ignore[misc]


def start(durable: Durable, order: Workflow, run: Run) -> None:
    durable.start(order, key=7)  # type: ignore[arg-type]
    durable.start(order, delay="1h")  # type: ignore[arg-type]
    durable.start(handler)  # type: ignore[arg-type]
    durable.start(order, {}, "order-42")  # type: ignore[call-arg]
    durable.start_many(order, 3)  # type: ignore[arg-type]
    durable.cancel(run)  # type: ignore[arg-type]
    order.start({}, ky="order-42")  # type: ignore[call-arg]
    order.start(key=7)  # type: ignore[arg-type]
    run.result("5")  # type: ignore[arg-type]
    run.restart()  # type: ignore[attr-defined]
