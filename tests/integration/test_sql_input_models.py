"""Inputs that a start could not check, as in SQL, are checked when the run begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from celery_durable import Durable
from tests.integration.driving import World, error_of


@dataclass
class Parcel:
    weight: int


@dataclass
class Strict:
    weight: int

    def __post_init__(self) -> None:
        raise AttributeError("no such thing")


class Order(BaseModel):
    sku: str
    amount: int = 1


@pytest.fixture
def seen() -> list[Any]:
    return []


def typed(world: World, model: type, seen: list[Any]) -> Durable:
    def define(durable: Durable) -> None:
        def note(ctx: Any) -> None:
            seen.append(ctx.input)

        undone = durable.step(note, name="first", compensate=note)
        durable.workflow("w", input=model).step(undone).wait_for_signal("go")

    worker = world.worker(define)
    worker.run_factory.outline("w", None)
    return worker


@pytest.mark.parametrize(
    ("model", "given", "found"),
    [
        (Order, '{"sku": "A1", "amount": "2"}', Order(sku="A1", amount=2)),
        (Parcel, '{"weight": 3}', Parcel(3)),
    ],
)
def test_handlers_and_compensators_get_the_model(
    world: World, seen: list[Any], model: type, given: str, found: Any
) -> None:
    worker = typed(world, model, seen)
    run = worker.run(world.one("SELECT durable_start('w', %s)", given))
    world.drain(worker)
    run.cancel(compensate=True)
    world.drain(worker)
    assert seen == [found, found]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Order, '{"amount": 1}'),
        (Parcel, '{"size": 3}'),
        (Parcel, '"a parcel"'),
        (Parcel, '{"weight": "3"}'),
        (Strict, '{"weight": 3}'),
    ],
)
def test_an_input_that_does_not_fit_fails_the_run_before_a_handler_is_called(
    world: World, seen: list[Any], model: type, given: str
) -> None:
    """P12"""
    worker = typed(world, model, seen)
    run = worker.run(world.one("SELECT durable_start('w', %s)", given))
    world.drain(worker)
    assert seen == []
    error = error_of(run)
    assert (error.type, error.unit) == ("PayloadError", "first")
    assert f"The input of workflow 'w' is not a {model.__name__}" in error.message


def test_a_process_without_the_code_leaves_the_check_to_the_run(
    world: World, seen: list[Any]
) -> None:
    worker = typed(world, Order, seen)
    world.worker().start("w", {"sku": "A1"})
    world.drain(worker)
    assert seen == [Order(sku="A1")]
