"""The `async` twins of methods: made of them, and with their signatures."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from celery_durable import ConfigurationError, Durable, Run, Workflow

TWINS = (
    "astart",
    "astart_many",
    "arun",
    "astatus",
    "alist",
    "ahistory",
    "acancel",
    "aresume",
    "arecover",
    "aworkers",
    "aqueues",
    "adoctor",
    "amigrate",
)


OF_WORKFLOWS = ("astart", "astart_many", "arun")


@pytest.mark.parametrize("name", OF_WORKFLOWS)
def test_a_twin_of_a_workflow_has_the_signature_of_its_method(name: str) -> None:
    twin, method = getattr(Workflow, name), getattr(Workflow, name[1:])
    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin) == inspect.signature(method)
    assert (twin.__name__, twin.__qualname__) == (name, f"Workflow.{name}")


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_a_coroutine_function_with_the_signature_of_its_method(name: str) -> None:
    twin, method = getattr(Durable, name), getattr(Durable, name[1:])
    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin) == inspect.signature(method)
    assert (twin.__name__, twin.__qualname__.rpartition(".")[2]) == (name, name)
    assert inspect.unwrap(twin) is twin


def test_who_overrides_a_method_has_overridden_its_twin() -> None:
    class Tagging(Durable):
        def start(self, *args: Any, **_: Any) -> Run:
            return self.run(args[0])

    run_id = "01980000-0000-7000-8000-000000000000"
    run = asyncio.run(Tagging().astart(run_id))
    assert str(run.id) == run_id


@pytest.mark.parametrize("name", ["arecover", "amigrate"])
def test_a_method_without_a_session_has_a_twin_without_one(name: str) -> None:
    with pytest.raises(TypeError, match="session"):
        asyncio.run(getattr(Durable(), name)(session=None))


def test_a_session_that_is_none_of_asyncio_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AsyncSession or AsyncConnection, not object"):
        asyncio.run(Durable().astart("w", session=object()))
