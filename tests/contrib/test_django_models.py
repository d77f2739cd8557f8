"""`WorkflowRun` and `WorkflowUnit` as models of Django, over the views."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_durable import ConfigurationError, Durable, RetryPolicy
from celery_durable.errors import GiveUp
from tests.contrib.projects import DjangoWorld

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def decline(_ctx: Any) -> None:
    raise GiveUp("no money")


def define(durable: Durable) -> None:
    child = durable.workflow("child").step(lambda ctx: ctx.input, name="only")
    durable.workflow("asks").step(lambda ctx: ctx.input, name="reserve").wait_for_signal("signoff")
    durable.workflow("fails").step(decline, retry=RetryPolicy(max_attempts=1))
    durable.workflow("mother").child_workflow("child", child)


@pytest.fixture
def models(world: DjangoWorld, shop: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the models, whose Durable is that of the shop; runs are started by another."""
    monkeypatch.setattr("celery_durable.contrib.django.project.current_app", shop.app)
    from celery_durable.contrib.django import models  # noqa: PLC0415 - Django imports it

    return models


@pytest.fixture
def worker(world: DjangoWorld, models: Any) -> Durable:
    return world.worker(define)


def test_a_run_is_what_its_status_says(world: DjangoWorld, worker: Durable, models: Any) -> None:
    started = [
        worker.start("asks", {"sku": "A1", "when": WHEN}, key="one", tags={"tenant": "a"}),
        worker.start("fails", {"sku": "A2"}),
        worker.start("mother", 7),
        worker.start("asks", delay=60),
    ]
    world.drain(worker)
    for run in started:
        found, status = models.WorkflowRun.objects.get(id=run.id), run.status()
        assert (found.status, found.input, found.result) == (
            status.status,
            status.input,
            status.result,
        )
        assert tuple(found.current) == status.current
        assert found.error == (
            None if status.error is None else {**found.error, "message": status.error.message}
        )
        assert [unit.unit for unit in found.units.all()] == [one.unit for one in run.history()]
        assert [unit.result for unit in found.units.all()] == [
            one.result for one in run.history(results=True)
        ]


def test_runs_are_found_by_what_is_in_them(
    world: DjangoWorld, worker: Durable, models: Any
) -> None:
    asks = worker.start("asks", {"sku": "A1", "lines": [{"n": 3}]}, tags={"tenant": "a"})
    fails = worker.start("fails", {"sku": "A2", "lines": []})
    mother = worker.start("mother", 7)
    world.drain(worker)

    def found(**filters: Any) -> set[Any]:
        return {run.id for run in models.WorkflowRun.objects.filter(**filters)}

    assert found(input__sku="A1") == {asks.id}
    assert found(input__lines__0__n__gt=2) == {asks.id}
    assert found(input__sku__startswith="A") == {asks.id, fails.id}
    assert found(error__type="GiveUp") == {fails.id}
    assert found(tags__tenant="a") == {asks.id}
    assert found(status="suspended", stored_status="running") == {asks.id}
    assert found(units__node="decline", units__outcome="failed") == {fails.id}
    assert found(children__workflow="child") == {mother.id}
    ordered = models.WorkflowRun.objects.filter(input__sku__isnull=False).order_by("-input__sku")
    assert [run.id for run in ordered] == [fails.id, asks.id]
    assert list(models.WorkflowUnit.objects.values_list("error__type", flat=True)) == [
        None,
        "GiveUp",
        None,
        None,
    ]


WRITES: dict[str, Callable[[Any, Any], object]] = {
    "save": lambda _, run: run.save(),
    "delete": lambda _, run: run.delete(),
    "create": lambda runs, _: runs.create(workflow="asks"),
    "update": lambda runs, _: runs.update(status="completed"),
    "delete all": lambda runs, _: runs.all().delete(),
    "bulk_create": lambda runs, run: runs.bulk_create([run]),
}


@pytest.mark.parametrize("how", WRITES)
def test_who_writes_is_told_what_to_call(worker: Durable, models: Any, how: str) -> None:
    run = worker.start("asks", {"sku": "A1"})
    runs = models.WorkflowRun.objects
    with pytest.raises(ConfigurationError, match="are there to read"):
        WRITES[how](runs, runs.get(id=run.id))
    assert run.status().status == "running"
