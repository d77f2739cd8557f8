"""What a pool is told of the time limits of a message."""

from dataclasses import dataclass
from typing import Any

import pytest

from celery_durable.worker.limits import lift_limits

MESSAGE = {"timelimit": [6, 1]}
NONE = {"timelimit": [None, None]}


@dataclass
class Result:
    """As billiard has it."""

    _timeout: Any
    _soft_timeout: Any


class Pool:
    """A pool with limits of its own; like billiard, it takes those where a message has none."""

    def __init__(self, *, is_green: bool = False) -> None:
        self.is_green = is_green

    def on_apply(
        self, _target: Any, _args: Any, timeout: Any = None, soft_timeout: Any = None
    ) -> Result:
        if self.is_green:
            return Result(60 if timeout is None else timeout, None)
        return Result(timeout or 60, soft_timeout or 50)


def applied(task: str, headers: Any, *, is_green: bool = False, **limits: Any) -> tuple[Any, Any]:
    pool = Pool(is_green=is_green)
    lift_limits(pool)
    result = pool.on_apply(None, (task, "id", headers, "body"), **limits)
    return result._timeout, result._soft_timeout


@pytest.mark.parametrize("task", ["durable.advance", "durable.compensate"])
def test_a_message_has_the_limits_that_it_names_and_no_others(task: str) -> None:
    assert applied(task, MESSAGE, timeout=6, soft_timeout=1) == (6, 1)
    assert applied(task, NONE, timeout=30, soft_timeout=20) == (0, 0)
    assert applied(task, NONE) == (0, 0)
    assert applied(task, {}) == (0, 0)


@pytest.mark.parametrize("task", ["durable.recover", "durable.start"])
def test_what_is_only_ours_has_none(task: str) -> None:
    assert applied(task, MESSAGE, timeout=6, soft_timeout=1) == (0, 0)


def test_other_tasks_have_those_of_their_message_or_their_pool() -> None:
    assert applied("shop.mail", MESSAGE, timeout=6, soft_timeout=1) == (6, 1)
    assert applied("shop.mail", NONE) == (60, 50)


def test_a_greenlet_has_no_limit_but_its_deadline() -> None:
    """The pool would raise in whatever it is at."""
    assert applied("durable.advance", MESSAGE, is_green=True, timeout=6)[0] == 0
    assert applied("durable.advance", NONE, is_green=True)[0] == 0
    assert applied("shop.mail", NONE, is_green=True)[0] == 60
