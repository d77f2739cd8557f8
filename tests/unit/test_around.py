"""Context managers around units are functions of the user's, as handlers are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from celery_durable import Context
from celery_durable.core.event import Event, Failed, Succeeded
from celery_durable.process import interrupts
from celery_durable.workflow.around import as_around
from celery_durable.workflow.execute import execute
from tests.unit.executing import TOOLS, TooSlow, workflow
from tests.unit.values import FixedJournal, at, claim


def became(around: Callable[[Any], Iterator[None]]) -> Event:
    """What becomes of a unit around which this is, and whose time is up when it begins."""
    held = replace(claim(at("charge"), None), time_limit=1.0)
    tools = replace(TOOLS, around=[as_around(around)])
    interrupts.begin(0.0)
    try:
        made = workflow(lambda _: None)
        return execute(made, held, Context(held, FixedJournal({})), tools).event
    finally:
        interrupts.begin(None)


def test_a_time_limit_strikes_before_the_handler() -> None:
    def around(_: Any) -> Iterator[None]:
        interrupts.strike(TooSlow())
        yield

    event = became(around)
    assert isinstance(event, Failed)
    assert event.error.type == "StepTimeout"


def test_a_time_limit_strikes_after_the_handler() -> None:
    def around(_: Any) -> Iterator[None]:
        yield
        interrupts.strike(TooSlow())

    event = became(around)
    assert isinstance(event, Failed)
    assert event.error.type == "StepTimeout"


def test_a_process_that_is_forked_there_ends_there() -> None:
    codes: list[int] = []

    def around(_: Any) -> Iterator[None]:
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            codes.append(os.waitstatus_to_exitcode(status))
        yield

    assert isinstance(became(around), Succeeded)
    assert codes == [0]
