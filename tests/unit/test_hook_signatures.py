"""`on_completed` and `on_failed` take the signature of one task, as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, Signature, chain, chord, group
from kombu.utils import json as kombu_json

from celery_durable import Durable
from celery_durable.core.status import Status
from celery_durable.errors import DuplicateWorkflow, InvalidWorkflow
from celery_durable.ordinary.signatures import hook_of
from celery_durable.workflow.hooks import Hook, Hooks
from tests.unit.values import RUN_ID

app = Celery("hooks", broker="memory://", set_as_current=False)


@app.task(name="notify")
def notify(*_: Any, **__: Any) -> None:
    """What is sent."""


def hook(signature: Signature) -> Hook:
    found = hook_of("order", "on_completed", signature)
    assert found is not None
    return found


def test_a_signature_is_taken_as_it_is_called() -> None:
    found = hook(notify.s("ops", level=3).set(queue="mail", countdown=None))
    assert found == Hook("notify", ["ops"], {"level": 3}, {"queue": "mail"}, is_immutable=False)


def test_a_signature_that_changes_later_changes_no_hook() -> None:
    signature = notify.s(["ops"])
    found = hook(signature)
    signature.args[0].append("more")
    assert found.args == [["ops"]]


def test_the_id_of_the_task_is_the_same_for_every_end_of_one_run() -> None:
    hooks = Hooks(hook(notify.s()), hook(notify.s()))
    sent = [hooks.message(RUN_ID, status) for status in (Status.COMPLETED, Status.FAILED)]
    again = hooks.message(RUN_ID, Status.COMPLETED)
    ids = [json.loads(one.options)["task_id"] for one in (*sent, again) if one is not None]
    assert ids[0] == ids[2] != ids[1]


def test_values_that_celery_writes_in_a_form_of_its_own_come_back_as_they_were() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    message = hook(notify.si(at)).message(RUN_ID, Status.COMPLETED)
    assert kombu_json.loads(message.args) == [at]


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a task": (lambda: notify, "takes the signature of one task"),
    "a name": (lambda: "notify", "takes the signature of one task"),
    "a function": (lambda: print, "takes the signature of one task"),
    "a chain": (lambda: chain(notify.s(), notify.s()), "takes the signature of one task"),
    "a group": (lambda: group(notify.s(), notify.s()), "takes the signature of one task"),
    "a chord": (lambda: chord([notify.s()], notify.s()), "takes the signature of one task"),
    "a map": (lambda: notify.map([1]), "takes the signature of one task"),
    "a NUL": (lambda: notify.s("a\0"), "NUL"),
    "half a character": (lambda: notify.s("\ud800"), "half a character"),
    "no name": (lambda: app.signature(""), "takes the signature of one task"),
    "a link": (lambda: notify.s().on_error(notify.s()), "has the option 'link_error'"),
    "an id": (lambda: notify.s().set(task_id="1"), "it would be the same for all runs"),
    "a connection": (lambda: notify.s().set(producer=object()), "a relay sends it"),
    "an object": (lambda: notify.s(object()), "holds what JSON cannot"),
    "a time among the options": (
        lambda: notify.s().set(eta=datetime(2026, 3, 1, tzinfo=UTC)),
        "holds what JSON cannot",
    ),
    "not a number": (lambda: notify.s(float("nan")), "holds what JSON cannot"),
    "an object among the options": (
        lambda: notify.s().set(retry_policy={"errback": print}),
        "holds what JSON cannot",
    ),
    "no name of a queue": (lambda: notify.s().set(queue=7), "takes the name of a queue"),
    "no priority": (lambda: notify.s().set(priority=256), "priority"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_outbox_cannot_hold_is_refused_where_it_is_defined(name: str) -> None:
    make, why = WRONG[name]
    durable = Durable()
    with pytest.raises(InvalidWorkflow, match=re.escape(why)) as told:
        durable.workflow("order", on_failed=make())
    assert "Workflow 'order': on_failed=" in str(told.value)
    assert not durable.registry.names()


def test_two_definitions_with_other_hooks_are_two() -> None:
    durable = Durable()
    for channel in ("ops", "sales"):
        durable.workflow("w", on_failed=notify.s(channel)).step(notify, name="a")
    with pytest.raises(DuplicateWorkflow, match="other tasks at the end of a run"):
        durable.registry.find("w")


def test_the_same_definition_may_be_imported_twice() -> None:
    durable = Durable()
    for _ in range(2):
        durable.workflow("w", on_failed=notify.s("ops")).step(notify, name="a")
    assert durable.registry.find("w") is not None
