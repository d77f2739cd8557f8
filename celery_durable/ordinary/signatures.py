"""Takes signatures of Celery apart: the plain data that the outbox can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from celery.canvas import Signature
from kombu.exceptions import EncodeError
from kombu.utils import json as kombu_json

from celery_durable.arguments import checked_priority, fits
from celery_durable.core.names import MAX_LENGTH
from celery_durable.errors import ConfigurationError, InvalidWorkflow
from celery_durable.ordinary.message import is_storable
from celery_durable.workflow.hooks import Hook

CANVAS = "celery."
"""What the names of the tasks begin with that stand for a chain, group, chord, map or chunks."""

LONGEST_TASK = 1000
"""Most characters of a task's name."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("link", "link_error", "chord", "chain", "group_id", "group_index"),
        "no callbacks: send a task that sends the others",
    ),
    "task_id": "no id of its own: it would be the same for all runs",
    **dict.fromkeys(
        ("producer", "publisher", "connection", "router"), "no connection: a relay sends it"
    ),
}
"""Options that a signature must not have, and why."""


def hook_of(workflow: str, option: str, signature: Any) -> Hook | None:
    """Return the hook that a signature makes; None for None. Raises `InvalidWorkflow`."""
    if signature is None:
        return None
    what = f"Workflow {workflow!r}: {option}="
    if not _is_of_one_task(signature):
        raise InvalidWorkflow(
            f"{what} takes the signature of one task, such as task.s(), not {signature!r:.80}."
            " To send several, send a task that sends them."
        )
    options = {name: found for name, found in signature.options.items() if found is not None}
    for name in options:
        if name in REFUSED:
            raise InvalidWorkflow(f"{what} has the option {name!r}; it takes {REFUSED[name]}.")
    _check_routing(what, options)
    return Hook(
        signature.task,
        _plain(what, [*signature.args], kombu_json.dumps),
        _plain(what, dict(signature.kwargs), kombu_json.dumps),
        _plain(what, options, json.dumps),
        is_immutable=bool(signature.immutable),
    )


def _is_of_one_task(signature: Any) -> bool:
    if not isinstance(signature, Signature):
        return False
    name: Any = signature["task"]
    return fits(name, LONGEST_TASK) and not name.startswith(CANVAS)


def _check_routing(what: str, options: Mapping[str, Any]) -> None:
    queue = options.get("queue")
    if queue is not None and not fits(queue, MAX_LENGTH):
        raise InvalidWorkflow(
            f"{what} has the option queue; it takes the name of a queue, not {queue!r:.80}."
        )
    try:
        checked_priority(options.get("priority"))
    except ConfigurationError as error:
        raise InvalidWorkflow(f"{what} has the option priority: {error}") from error


def _plain(what: str, found: Any, dumps: Callable[[Any], str]) -> Any:
    """Return what JSON makes of arguments or options.

    Arguments that kombu writes in a form of its own, such as a datetime, are read back by the
    task's worker; options are read by the relay, which gets them as they are.
    """
    try:
        plain = json.loads(dumps(found))
    except (EncodeError, TypeError, ValueError, RecursionError) as error:
        raise InvalidWorkflow(f"{what} holds what JSON cannot: {error}") from error
    if not is_storable(plain):
        raise InvalidWorkflow(
            f"{what} holds what JSON cannot, or Postgres: NaN, Infinity, NUL or half a character."
        )
    return plain
