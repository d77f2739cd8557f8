"""Two definitions of one workflow and version: the same, or refused with both places."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, Workflow
from celery_durable.errors import DuplicateWorkflow

Add = Callable[[Workflow, Any], object]


class Shop:
    def method(self, ctx: Any) -> None: ...

    def other_method(self, ctx: Any) -> None: ...

    def __call__(self, ctx: Any) -> None: ...


class OtherShop(Shop):
    def __call__(self, ctx: Any) -> None: ...


def one(ctx: Any) -> None: ...


def other(ctx: Any) -> None: ...


def as_compensator(workflow: Workflow, function: Any) -> None:
    durable = Durable()
    step = durable.step(name="a")(one)
    step.compensate(function)
    workflow.step(step)


def as_task(workflow: Workflow, function: Any) -> None:
    app = Celery("t", set_as_current=False)
    workflow.step(app.task(name="t.a", shared=False)(function), name="a", args=one)  # type: ignore[arg-type]


def as_compensating_task(workflow: Workflow, function: Any) -> None:
    app = Celery("t", set_as_current=False)
    task = app.task(name="t.a", shared=False)(function)
    workflow.step(one, name="a", compensate=Durable().step_of(task, args=one))  # type: ignore[arg-type]


def named(function: Any) -> Any:
    return Durable().step(function, name="item")


PLACES: dict[str, Add] = {
    "a": lambda workflow, f: workflow.step(f, name="a"),
    "a#compensate": as_compensator,
    "a of a task": as_task,
    "a#compensate of a task": as_compensating_task,
    "a (argument function 1)": lambda workflow, f: workflow.step(str, name="a", args=f),
    "a (argument function 2)": lambda workflow, f: workflow.step(str, name="a", kwargs=f),
    "a#b": lambda workflow, f: workflow.parallel("a", {"b": f, "c": one}),
    "a of items": lambda workflow, f: workflow.map("a", over=one, handler=named(f)),
    "over= of a": lambda workflow, f: workflow.map("a", over=f, handler=one),
    "selector= of a": lambda workflow, f: workflow.route("a", f, {"b": one}),
    "until= of a": lambda workflow, f: workflow.loop("a", one, max_iterations=2, until=f),
    "feedback= of a": lambda workflow, f: workflow.loop("a", one, max_iterations=2, feedback=f),
    "map_input= of a": lambda workflow, f: workflow.child_workflow("a", "child", map_input=f),
    "duration= of a": lambda workflow, f: workflow.sleep("a", f),
    ".returns": lambda workflow, f: workflow.step(one, name="a").returns(f),
}


@pytest.mark.parametrize("place", PLACES)
def test_two_functions_at_one_place_are_refused_with_both(place: str) -> None:
    durable = Durable()
    add = PLACES[place]
    add(durable.workflow("order"), one)
    first = durable.workflow("order")
    add(first, one)
    assert durable.registry.find("order") is first

    last = durable.workflow("order")
    add(last, other)
    with pytest.raises(DuplicateWorkflow) as told:
        durable.registry.find("order")

    message = str(told.value)
    assert f"'order' version 1, at {first.defined_at} and {last.defined_at}: " in message
    assert first.defined_at.startswith(f"{__name__}:")
    assert first.defined_at != last.defined_at
    assert f"{place.partition(' of ')[0]}" in message
    lines = [f"{__name__}:{f.__code__.co_firstlineno}" for f in (one, other)]
    assert f"is {lines[0]} in one and {lines[1]} in the other." in message


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def call(ctx: Any) -> Any:
        return function(ctx)

    return call


def taking(function: Any) -> Any:
    return functools.partial(function, None)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (decorated(one), decorated(other)),
        (taking(one), taking(other)),
        (decorated(taking(one)), decorated(taking(other))),
        (Shop().method, Shop().other_method),
        (Shop(), OtherShop()),
        (lambda ctx: ctx.input, lambda ctx: [ctx.input]),
        (str, int),
        (len, repr),
    ],
)
def test_the_function_behind_a_callable_is_what_counts(first: Any, last: Any) -> None:
    durable = Durable()
    for again in (first, first):
        durable.workflow("order").step(again, name="a")
    assert durable.registry.find("order")
    durable.workflow("order").step(last, name="a")
    with pytest.raises(DuplicateWorkflow, match=r"in one and .* in the other"):
        durable.registry.find("order")


def test_a_factory_that_is_called_twice_makes_the_same(tmp_path: Path) -> None:
    durable = Durable()

    def define() -> Workflow:
        @durable.step
        def charge(ctx: Any) -> None: ...

        return durable.workflow("order").step(charge)

    define()
    last = define()
    assert durable.registry.find("order") is last


def made(value: Any) -> Any:
    def call(ctx: Any) -> Any:
        return value

    return call


def with_default(value: Any) -> Any:
    def call(ctx: Any, value: Any = value) -> Any:
        return value

    return call


def with_keyword(value: Any) -> Any:
    def call(ctx: Any, *, value: Any = value) -> Any:
        return value

    return call


def partial_of(value: Any) -> Any:
    return functools.partial(one, value)


@pytest.mark.parametrize("factory", [made, with_default, with_keyword, partial_of])
def test_functions_that_one_factory_made_with_other_values_are_two(
    factory: Callable[[Any], Any],
) -> None:
    durable = Durable()
    for value in ("EUR", "EUR", ("EUR", 2), ["EUR", None]):
        durable.workflow("order").step(factory(value), name="a")
        if value == "EUR":
            assert durable.registry.find("order")
            continue
        with pytest.raises(DuplicateWorkflow, match=r"in both, but was made with other values"):
            durable.registry.find("order")


def test_objects_that_a_function_was_made_with_tell_nothing() -> None:
    durable = Durable()
    for held in (Shop(), Shop()):
        durable.workflow("order").step(made(held), name="a")
    assert durable.registry.find("order")


SHARED = "from celery_durable import Durable\ndurable = Durable()\n"

MODULE = """
from shared_of_twins import durable

@durable.step
def charge(ctx): ...

@charge.compensate
def refund(ctx): ...

durable.workflow("order").step(charge).map("lines", over=lambda ctx: [], handler=charge)

if __name__ == "__main__":
    import twice_of_twins
    assert durable.registry.find("order").plan
    print("the same")
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shared_of_twins.py").write_text(SHARED)
    (tmp_path / "twice_of_twins.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_module_that_is_reloaded_defines_the_same(modules: Path) -> None:
    module = importlib.import_module("twice_of_twins")
    try:
        importlib.reload(module)
        assert module.durable.registry.find("order")
        sys.modules["under_another_name"] = sys.modules.pop("twice_of_twins")
        importlib.import_module("twice_of_twins")
        assert module.durable.registry.find("order")
    finally:
        for name in ("twice_of_twins", "under_another_name", "shared_of_twins"):
            sys.modules.pop(name, None)


def test_a_script_that_imports_itself_defines_the_same(modules: Path) -> None:
    done = subprocess.run(
        [sys.executable, "twice_of_twins.py"],
        cwd=modules,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the same\n", done.stderr
