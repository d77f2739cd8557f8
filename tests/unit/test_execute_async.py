"""Running `async def` handlers."""

import asyncio
from contextvars import ContextVar
from typing import Any

from celery_durable.core.event import Succeeded
from tests.unit.executing import failure, outcome
from tests.unit.values import NOW

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def test_an_async_handler_is_awaited() -> None:
    async def charge(ctx: Any) -> Any:
        await asyncio.sleep(0)
        return ctx.input

    assert outcome(charge, input=5).event == Succeeded("5", NOW)


def test_async_handlers_share_one_event_loop_per_thread() -> None:
    loops = []

    async def charge(_ctx: Any) -> None:
        loops.append(asyncio.get_running_loop())

    outcome(charge)
    outcome(charge)
    assert loops[0] is loops[1]


def test_an_async_handler_sees_the_context_variables_of_its_caller_as_they_are_now() -> None:
    async def charge(_ctx: Any) -> str:
        return tenant.get()

    seen = []
    for name in ("one", "two"):
        token = tenant.set(name)
        seen.append(outcome(charge).event)
        tenant.reset(token)
    assert seen == [Succeeded('"one"', NOW), Succeeded('"two"', NOW)]


def test_a_context_variable_set_by_one_async_handler_is_not_seen_by_the_next() -> None:
    async def leave(_ctx: Any) -> None:
        tenant.set("left behind")

    async def look(_ctx: Any) -> str:
        return tenant.get()

    outcome(leave)
    assert outcome(look).event == Succeeded('"nobody"', NOW)


def test_an_async_handler_that_fails_is_a_failure_and_the_next_one_runs() -> None:
    async def charge(_ctx: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def fine(_ctx: Any) -> int:
        return 1

    assert failure(charge).error.type == "ValueError"
    assert outcome(fine).event == Succeeded("1", NOW)


def test_a_cancelled_await_is_a_failure_of_the_handler() -> None:
    async def charge(_ctx: Any) -> None:
        raise asyncio.CancelledError

    assert failure(charge).error.type == "asyncio.exceptions.CancelledError"
