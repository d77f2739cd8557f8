"""Handlers of a workflow of one step, and what becomes of them."""

from collections.abc import Callable
from typing import Any

from celery_durable import Context, Durable, RetryPolicy
from celery_durable.core.event import Failed
from celery_durable.core.token import Token
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.execute import Execution, execute
from tests.unit.values import FixedJournal, at, claim, encode

Handler = Callable[[Any], Any]


class CardDeclined(Exception):
    pass


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


def executed(made: Workflow, token: Token, input: object = None) -> Execution:
    held = claim(token, input)
    return execute(made, held, Context(held, FixedJournal({"charge": 7})), encode)


def outcome(step: Handler, input: object = None) -> Execution:
    return executed(workflow(step), at("charge"), input)


def failure(step: Handler) -> Failed:
    event = outcome(step).event
    assert isinstance(event, Failed)
    return event


def raising(error: BaseException) -> Handler:
    def charge(ctx: Any) -> None:
        raise error

    return charge
