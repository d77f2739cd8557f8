"""Running `async def` handlers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from celery_durable import Durable
from celery_durable.core.event import Failed, Succeeded
from celery_durable.workflow import loops
from tests.unit.executing import executed, failure, outcome
from tests.unit.values import NOW, at

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


async def at_work(log: list[str], *, stubborn: bool = False) -> None:
    """What a handler may leave behind: it would go on with the next handler's loop."""
    while True:
        try:
            await asyncio.sleep(0.001)
            log.append("went on")
        except asyncio.CancelledError:
            log.append("cancelled")
            if not stubborn:
                raise


async def numbers(log: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(9):
            yield number
    finally:
        await asyncio.sleep(0)
        log.append("closed")


async def goes_on(_ctx: Any) -> None:
    """The next handler: it gives what is left of others all the time it may want."""
    for _ in range(20):
        await asyncio.sleep(0.001)


LEFT: dict[str, Callable[[list[str]], Any]] = {
    "a task": lambda log: asyncio.create_task(at_work(log)),
    "a callback": lambda log: asyncio.get_running_loop().call_later(0.001, log.append, "went on"),
    "a task of a callback": lambda log: asyncio.get_running_loop().call_soon(
        lambda: asyncio.ensure_future(at_work(log))
    ),
}
ENDINGS: dict[str, BaseException | None] = {
    "returns": None,
    "fails": ValueError(),
    "is cancelled": asyncio.CancelledError(),
    "exits": SystemExit("no"),
    "is interrupted": KeyboardInterrupt(),
}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_that_an_async_handler_leaves_behind_goes_on(left: str, ending: str) -> None:
    log: list[str] = []
    kept: list[Any] = []

    async def charge(_ctx: Any) -> int:
        kept.append(LEFT[left](log))
        await asyncio.sleep(0)
        if (error := ENDINGS[ending]) is not None:
            raise error
        return 1

    event = outcome(charge).event
    assert isinstance(event, Succeeded if ENDINGS[ending] is None else Failed)
    before = [*log]
    outcome(goes_on)
    assert log == before


def test_what_is_left_may_clean_up_before_its_handler_has_ended() -> None:
    log: list[str] = []
    kept: list[Any] = []

    async def charge(_ctx: Any) -> None:
        kept.append(asyncio.create_task(at_work(log)))
        await asyncio.sleep(0)
        async for _ in (left := numbers(log)):
            kept.append(left)
            break

    assert outcome(charge).event == Succeeded("null", NOW)
    assert {*log} >= {"cancelled", "closed"}


def test_a_task_that_cannot_be_cancelled_does_not_go_on_either(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "ENDS_WITHIN", 0.02)
    log: list[str] = []
    kept: list[Any] = []

    async def charge(_ctx: Any) -> None:
        kept.append(asyncio.create_task(at_work(log, stubborn=True)))
        await asyncio.sleep(0.01)

    outcome(charge)
    before = [*log]
    outcome(goes_on)
    assert "cancelled" in log
    assert log == before
    assert "order.charge left 1 asyncio tasks behind" in caplog.text
    assert "order.charge left a task that cannot be cancelled" in caplog.text


def test_the_loop_of_async_handlers_is_not_the_one_that_a_plain_handler_finds() -> None:
    """It could leave something there, which would go on in the next async handler."""
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    seen = []

    async def charge(_ctx: Any) -> None:
        seen.append(asyncio.get_running_loop())

    try:
        outcome(charge)
        outcome(lambda _ctx: seen.append(asyncio.get_event_loop()))
    finally:
        asyncio.set_event_loop(None)
        mine.close()
    assert seen[0] is not mine
    assert seen[1] is mine


def test_a_loop_in_which_something_went_wrong_is_not_used_again() -> None:
    loops_seen = []

    async def charge(ctx: Any) -> None:
        loops_seen.append(asyncio.get_running_loop())
        if ctx.input:
            raise SystemExit

    for goes_wrong in (False, True, False):
        outcome(charge, input=goes_wrong)
    first, second, third = loops_seen
    assert first is second
    assert second.is_closed()
    assert third is not second


@pytest.mark.parametrize("is_async", [False, True])
def test_a_context_variable_set_by_one_handler_is_not_seen_by_the_next(is_async: bool) -> None:
    """Nor by the function between two steps, nor by the worker itself."""

    def leave(_ctx: Any) -> str:
        tenant.set("left behind")
        return tenant.get()

    async def leave_async(ctx: Any) -> str:
        return leave(ctx)

    assert outcome(leave_async if is_async else leave).event == Succeeded('"left behind"', NOW)
    assert outcome(lambda _ctx: tenant.get()).event == Succeeded('"nobody"', NOW)
    assert tenant.get() == "nobody"


@pytest.mark.parametrize("place", ["over", "until", "feedback", "map_input"])
def test_a_context_variable_set_by_a_function_between_steps_stays_in_it(place: str) -> None:
    def leave(*_given: Any) -> list[int]:
        tenant.set("left behind")
        return []

    made = Durable().workflow("order")
    function: dict[str, Any] = {place: leave}
    if place == "over":
        executed(made.map("poll", handler=lambda _: 1, **function), at("poll"))
    else:
        made.loop("poll", lambda _: 1, max_iterations=3, **function)
        executed(made, at("poll#0", position=0))
    assert tenant.get() == "nobody"


def test_a_cancelled_await_is_a_failure_of_the_handler() -> None:
    async def charge(_ctx: Any) -> None:
        raise asyncio.CancelledError

    assert failure(charge).error.type == "asyncio.exceptions.CancelledError"
