"""What a type checker cannot know is Any, and nothing else is."""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, get_overloads

import pytest

import celery_durable
from celery_durable.process.once import once

CLASSES = {
    name: found
    for name in celery_durable.__all__
    if inspect.isclass(found := getattr(celery_durable, name))
}

STORED = {
    "Context.item",
    "Context.resume_data",
    "Context.result",
    "Context.signal",
    "Context.snapshot",
    "Durable.outcome",
    "Durable.aoutcome",
    "JournalEntry.__init__",
    "Progress.__init__",
    "RunSnapshot.__init__",
}
"""These return, or hold, what was stored, of whatever type that was."""

OF_CELERY = {"OutboxTask.apply_async", "OutboxTask.delay", "Workflow.s"}
"""These have to do with classes of Celery, which has no types."""

ANY = re.compile(r"\bAny\b")

OF_ANY = (
    re.compile(r"Coroutine\[Any, Any, \w+\]"),
    re.compile(r"Callable\[\[Any(, int)?\], \w*\]"),
)
"""A coroutine, which is sent nothing; a user's function, which takes what its step returns."""


def signatures(owner: type) -> Iterator[tuple[str, Any]]:
    """Of each public method, property and constructor, each as a caller may write it."""
    for name, found in inspect.getmembers_static(owner):
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if isinstance(found, property):
            found = found.fget  # noqa: PLW2901
        elif isinstance(found, cached_property | once):
            found = found.func  # noqa: PLW2901
        if not inspect.isfunction(found) or not found.__module__.startswith("celery_durable"):
            continue
        for one in get_overloads(found) or [found]:
            yield name, inspect.signature(one)


def untyped(name: str, owner: type) -> set[str]:
    return {
        f"{name}.{method}: {annotation}"
        for method, signature in signatures(owner)
        if f"{name}.{method}" not in STORED | OF_CELERY
        for annotation in annotations(signature)
        if ANY.search(without_functions(annotation))
    }


def without_functions(annotation: str) -> str:
    for kind in OF_ANY:
        annotation = kind.sub("", annotation)
    return annotation


def annotations(signature: inspect.Signature) -> Iterator[str]:
    for parameter in signature.parameters.values():
        yield f"{parameter.name}: {parameter.annotation}"
    yield f"-> {signature.return_annotation}"


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_in_a_public_signature_is_any(name: str) -> None:
    assert untyped(name, CLASSES[name]) == set()


def test_an_any_is_found() -> None:
    def wrong(self: object, what: "list[Any]", more: "Callable[[Any], object]") -> None: ...

    wrong.__module__ = "celery_durable.anything"
    owner = type("Owner", (), {"wrong": wrong})
    assert untyped("Owner", owner) == {"Owner.wrong: what: list[Any]"}
