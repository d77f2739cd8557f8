"""The page that walks through one message, held against a real one."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import celery_durable
from tests.addresses import ROOT
from tests.integration.driving import World

PAGE = ROOT / "docs" / "explanation" / "one-message.md"
LONGEST_PAGE = 60
NAMED = re.compile(r"`((?:[a-z_]+\.)+[A-Za-z_.]+)`")
PACKAGE = Path(celery_durable.__file__).parent
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}


def names() -> list[str]:
    """The functions and classes that the page names, in order."""
    found = NAMED.findall(PAGE.read_text())
    return [name for name in found if name.partition(".")[0] in ROOMS]


def code_of(name: str) -> CodeType:
    """What is called by this name; of a class, its constructor."""
    parts = name.split(".")
    split = next(n for n in range(len(parts), 0, -1) if is_module(parts[:n]))
    found: Any = import_module(".".join(["celery_durable", *parts[:split]]))
    for part in parts[split:]:
        found = getattr(found, part)
    if isinstance(found, type):
        found = vars(found)["__init__"]
    code: CodeType = found.__code__
    return code


def is_module(parts: list[str]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def called(world: World) -> Iterator[CodeType]:
    """What one message of a run of one step calls, in order."""
    durable = world.worker(lambda durable: durable.workflow("w").step(lambda _: 1, name="charge"))
    run = durable.start("w", {})
    (token,) = world.publish()
    calls: list[CodeType] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls.append(frame.f_code)

    sys.setprofile(note)
    try:
        durable.app.tasks["durable.advance"](str(token))
    finally:
        sys.setprofile(None)
    assert world.status(run) == "completed"
    return iter(calls)


def test_the_page_is_read_in_one_sitting() -> None:
    assert len(PAGE.read_text().splitlines()) <= LONGEST_PAGE


@pytest.mark.parametrize("name", names())
def test_every_function_that_the_page_names_exists(name: str) -> None:
    assert code_of(name).co_name


def test_a_real_message_meets_them_in_this_order(world: World) -> None:
    calls = called(world)
    for name in names():
        assert code_of(name) in calls, f"{name} is not called after those before it"
