"""Mistakes that a type checker is to find; an `ignore` that is not needed is an error itself."""

from celery_durable import Context, Durable, RetryPolicy, Run, Workflow


def handler(ctx: Context) -> None: ...


def of_two(ctx: Context, more: int) -> None: ...


def define(durable: Durable, order: Workflow) -> None:
    durable.workflow(7)  # type: ignore[arg-type]
    durable.workflow("order", version="2")  # type: ignore[arg-type]
    durable.workflow("order", revision=2)  # type: ignore[call-arg]
    durable.step(retry=3)  # type: ignore[call-overload]
    durable.step(of_two)  # type: ignore[arg-type]
    durable.step("handler")  # type: ignore[call-overload]
    durable.step(qeue="payments")(handler)  # type: ignore[call-overload]
    durable.step(handler).compensate(timeout="1")(handler)  # type: ignore[call-overload]
    order.returns({"ok": True})  # type: ignore[arg-type]
    order.step(print, args=(1, 2))  # type: ignore[arg-type]
    order.returns(of_two)  # type: ignore[arg-type]
    order.plan = None  # type: ignore[misc, assignment]


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
