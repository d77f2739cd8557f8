"""Handlers of a workflow of one step, and what becomes of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery_durable import Context, Durable, RetryPolicy
from celery_durable.core.child import NewRun
from celery_durable.core.claim import Claim
from celery_durable.core.event import Event, Failed, Succeeded
from celery_durable.core.nodes import ChildNode
from celery_durable.core.token import Token
from celery_durable.errors import ErrorRecord
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.execute import Execution, Tools, execute
from tests.unit.nodes import CHILD
from tests.unit.values import FixedJournal, at, claim, encode

Handler = Callable[[Any], Any]


class CardDeclined(Exception):
    pass


class TooSlow(Exception):
    """What a pool raises in a handler whose time limit has passed."""


def spawn(claim: Claim, child: ChildNode, input: str | None) -> NewRun:
    """A run of the child's workflow."""
    return NewRun(CHILD, CHILD, CHILD, child.workflow, 1, "a", "a", "durable", input or "")


class ToldToExit(BaseException):
    """What a pool raises in a handler whose process has to exit."""


TOOLS = Tools(encode, spawn, (TooSlow,), lambda error: isinstance(error, ToldToExit))


def workflow(
    step: Handler, undo: Handler | None = None, returns: Handler | None = None
) -> Workflow:
    """A workflow of the one step `charge`."""
    durable = Durable()
    made = durable.workflow("order").step(
        durable.step(name="charge", retry=RetryPolicy(give_up_on=(CardDeclined,)), compensate=undo)(
            step
        )
    )
    return made if returns is None else made.returns(returns)


def executed(
    made: Workflow, token: Token, input: object = None, limit: float | None = None
) -> Execution:
    held = replace(claim(token, input), time_limit=limit)
    return execute(made, held, Context(held, FixedJournal({"charge": 7})), TOOLS)


def outcome(step: Handler, input: object = None, limit: float | None = None) -> Execution:
    return executed(workflow(step), at("charge"), input, limit)


def failure(step: Handler, limit: float | None = None) -> Failed:
    return failure_of(workflow(step), at("charge"), limit)


def failure_of(made: Workflow, token: Token, limit: float | None = None) -> Failed:
    event = executed(made, token, limit=limit).event
    assert isinstance(event, Failed)
    return event


def error_of_loop(event: Event) -> ErrorRecord:
    """The error of a function of a loop, whose body has succeeded."""
    assert isinstance(event, Succeeded)
    assert event.iteration is not None
    assert event.iteration.error is not None
    return event.iteration.error


def raising(error: BaseException) -> Handler:
    def charge(ctx: Any) -> None:
        raise error

    return charge
