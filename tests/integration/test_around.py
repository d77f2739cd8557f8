"""`durable.around`: every unit is executed inside of context managers of the user's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import pytest

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import ConfigurationError
from celery_durable.run import Run
from celery_durable.testing import Harness
from tests.integration.driving import ONCE, Define, World, error_of

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def noting_around(log: list[str], name: str = "around") -> Callable[[Any], Iterator[None]]:
    """A generator function that notes when it is entered and left, and for which unit."""

    def around(ctx: Any) -> Iterator[None]:
        log.append(f"{name} enters {ctx.unit}")
        try:
            yield
        finally:
            log.append(f"{name} leaves {ctx.unit}")

    return around


def noted(log: list[str], what: str, result: Any = None) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        log.append(what)
        return result

    function.__name__ = what
    return function


def driven(world: World, define: Define) -> Run:
    worker = world.worker(define)
    run = worker.start("w", {})
    world.drain(worker)
    assert world.has_ended(run)
    return run


def test_every_step_and_compensation_is_executed_inside(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.around(noting_around(log))
        reserve = durable.step(name="reserve", compensate=noted(log, "release"))(
            noted(log, "reserve")
        )
        charge = durable.step(name="charge", retry=ONCE)(lambda _: 1 / 0)
        durable.workflow("w").step(reserve).step(charge)

    driven(world, define)
    assert log == [
        "around enters reserve",
        "reserve",
        "around leaves reserve",
        "around enters charge",
        "around leaves charge",
        "around enters reserve#compensate",
        "release",
        "around leaves reserve#compensate",
    ]


def test_so_are_branches_items_iterations_and_the_functions_between_steps(world: World) -> None:
    inside: list[str] = []
    depth = 0

    def around(_: Any) -> Iterator[None]:
        nonlocal depth
        depth += 1
        try:
            yield
        finally:
            depth -= 1

    def here(name: str, result: Any = None) -> Callable[..., Any]:
        def function(*_: Any) -> Any:
            assert depth == 1, f"{name} is called outside"
            inside.append(name)
            return result

        function.__name__ = name
        return function

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("child").step(here("in_child"))
        (
            durable.workflow("w")
            .parallel("checks", {"fraud": here("fraud"), "price": here("price")})
            .map("lines", over=here("over", [1, 2]), handler=here("line"))
            .route("rail", here("select", "card"), {"card": here("card")})
            .loop("poll", here("poll"), until=here("until", result=True), max_iterations=2)
            .loop(
                "again",
                durable.workflow("looped").step(here("in_looped")),
                until=here("until_child", result=True),
                map_input=here("first_input", {}),
                max_iterations=2,
            )
            .child_workflow("call", "child", map_input=here("map_input", {}))
            .sleep("rest", here("duration", 0))
            .returns(here("returns"))
        )

    driven(world, define)
    called = "fraud price over line line select card poll until first_input in_looped until_child"
    assert sorted(inside) == sorted(f"{called} map_input in_child duration returns".split())
    assert depth == 0


def test_units_of_a_bundle_are_each_inside(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.around(noting_around(log))
        durable.workflow("w").step(noted(log, "a")).step(noted(log, "b"))

    worker = world.worker(define)
    worker.start_many("w", [{}] * 8)
    worker.engine.advance_together(world.publish())
    for unit in ("a", "b"):
        assert log.count(unit) == log.count(f"around enters {unit}") == 8
    for at in range(0, len(log), 3):
        unit = log[at + 1]
        assert log[at : at + 3] == [f"around enters {unit}", unit, f"around leaves {unit}"]


def test_several_are_entered_in_the_order_in_which_they_were_registered(world: World) -> None:
    log: list[str] = []

    def define(durable: Durable) -> None:
        durable.around(noting_around(log, "first"))
        durable.around(noting_around(log, "second"))
        durable.workflow("w").step(noted(log, "a"))

    driven(world, define)
    assert log == [
        *("first enters a", "second enters a", "a"),
        *("second leaves a", "first leaves a"),
    ]


class Managed:
    """A context manager that is a class."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def __enter__(self) -> None:
        self._log.append("enter")

    def __exit__(self, *_: object) -> None:
        self._log.append("exit")


def test_any_function_that_returns_a_context_manager_will_do(world: World) -> None:
    log: list[str] = []

    @contextmanager
    def made(_: Any) -> Iterator[None]:
        log.append("made")
        yield

    def managed(_: Any) -> AbstractContextManager[None]:
        return Managed(log)

    def define(durable: Durable) -> None:
        assert durable.around(made) is made
        durable.around(managed)
        durable.workflow("w").step(noted(log, "a"))

    driven(world, define)
    assert log == ["made", "enter", "a", "exit"]


def test_an_async_handler_sees_what_is_set_around_it(world: World) -> None:
    seen: list[str] = []

    def around(ctx: Any) -> Iterator[None]:
        tenant.set(ctx.input["tenant"])
        yield

    async def handler(_: Any) -> None:
        await asyncio.sleep(0)
        seen.append(tenant.get())

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").step(handler)

    worker = world.worker(define)
    worker.start("w", {"tenant": "acme"})
    world.drain(worker)
    assert seen == ["acme"]
    assert tenant.get() == "nobody"


def test_what_it_raises_is_the_units_failure_and_is_tried_again(world: World) -> None:
    log: list[str] = []

    def around(ctx: Any) -> Iterator[None]:
        if ctx.attempt == 1:
            raise ConnectionError("the tenant's database is away")
        yield

    def define(durable: Durable) -> None:
        durable.around(around)
        soon = RetryPolicy(max_attempts=2, initial=0.0, jitter=False)
        durable.workflow("w").step(noted(log, "a", {"ok": True}), retry=soon)

    run = driven(world, define)
    assert log == ["a"]
    (entry,) = run.history()
    assert [failure.error.message for failure in entry.failures] == [
        "the tenant's database is away"
    ]
    first_line = entry.failures[0].error.traceback.splitlines()[1]
    assert "test_around.py" in first_line, entry.failures[0].error.traceback


def test_what_it_raises_at_the_end_is_the_units_failure_too(world: World) -> None:
    def around(_: Any) -> Iterator[None]:
        yield
        raise RuntimeError("it could not be closed")

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").step(lambda _: None, name="a", retry=ONCE)

    run = driven(world, define)
    assert error_of(run).message == "it could not be closed"
    assert world.units(run) == ["a failed"]


def test_it_sees_what_the_handler_raises_and_may_raise_something_else(world: World) -> None:
    def around(_: Any) -> Iterator[None]:
        try:
            yield
        except ZeroDivisionError as error:
            raise ValueError("nobody to share with") from error

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").step(lambda _: 1 / 0, name="a", retry=ONCE)

    assert error_of(driven(world, define)).message == "nobody to share with"


def test_it_sees_what_a_function_of_the_node_raises(world: World) -> None:
    seen: list[BaseException] = []

    def around(_: Any) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            seen.append(error)
            raise

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").loop(
            "poll", lambda _: None, map_input=lambda _: 1 / 0, max_iterations=1
        )

    assert error_of(driven(world, define)).type == "ZeroDivisionError"
    assert [type(error) for error in seen] == [ZeroDivisionError]


def test_it_cannot_make_a_success_of_a_failure(world: World) -> None:
    def around(_: Any) -> Iterator[None]:
        with suppress(ZeroDivisionError):
            yield

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").step(lambda _: 1 / 0, name="a", retry=ONCE)

    assert error_of(driven(world, define)).type == "ZeroDivisionError"


def test_a_function_that_returns_no_context_manager_fails_the_unit(world: World) -> None:
    def around(_: Any) -> Any:
        return 42

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").step(lambda _: None, name="a", retry=ONCE)

    message = error_of(driven(world, define)).message
    assert "around" in message
    assert "returned int: it must yield once, or return a context manager" in message


async def _coroutine(_: Any) -> None: ...


async def _generator(_: Any) -> Any:
    yield


@pytest.mark.parametrize("function", [_coroutine, _generator, 42])
def test_what_is_no_plain_function_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"durable\.around takes a"):
        Durable().around(function)


def test_one_that_is_registered_late_is_entered_from_then_on(world: World) -> None:
    log: list[str] = []
    worker = world.worker(lambda durable: durable.workflow("w").step(noted(log, "a")))
    for _ in range(2):
        worker.start("w", {})
        world.drain(worker)
        worker.around(noting_around(log))
    assert log == ["a", "around enters a", "a", "around leaves a"]


def test_a_harness_enters_it_too(world: World) -> None:
    log: list[str] = []
    durable = world.worker()
    durable.around(noting_around(log))
    workflow = durable.workflow("w").step(noted(log, "a"))
    Harness(durable).run(workflow)
    assert log == ["around enters a", "a", "around leaves a"]


def test_a_transactional_step_rolls_back_with_what_it_raises(world: World) -> None:
    world.rows("CREATE TABLE IF NOT EXISTS ledger (unit text)")

    def around(_: Any) -> Iterator[None]:
        yield
        raise RuntimeError("the tenant is gone")

    def book(ctx: Any) -> None:
        ctx.session.connection().exec_driver_sql("INSERT INTO ledger VALUES ('book')")

    def define(durable: Durable) -> None:
        durable.around(around)
        durable.workflow("w").step(book, transactional=True, retry=ONCE)

    assert error_of(driven(world, define)).message == "the tenant is gone"
    assert world.rows("SELECT * FROM ledger") == []


def test_a_null_context_changes_nothing(world: World) -> None:
    def define(durable: Durable) -> None:
        durable.around(lambda _: nullcontext())
        durable.workflow("w").step(lambda _: 7, name="a")

    assert driven(world, define).result() == {"a": 7}
