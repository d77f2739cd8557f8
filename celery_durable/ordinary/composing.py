"""Makes messages of signatures: of one task, of a chain, of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from celery import Celery
from celery.canvas import Signature, _chain, chord, chunks, group, maybe_signature
from celery.utils import uuid
from kombu.utils.functional import maybe_list

from celery_durable.core.message import TaskMessage
from celery_durable.errors import ConfigurationError
from celery_durable.ordinary.message import captured
from celery_durable.workflow.sending import Composed

IMMUTABLE = ("group_id", "stamped_headers")
"""Options that a task in a canvas keeps (`Signature._IMMUTABLE_OPTIONS` in celery/canvas.py)."""

Options = Mapping[str, Any]


class Composer:
    """Makes messages of signatures for one app; none may be longer than `limit` bytes."""

    def __init__(self, app: Celery, limit: int) -> None:
        self._app = app
        self._limit = limit

    def compose(self, signature: object, **defaults: Any) -> Composed:
        """Return the messages of a signature; `defaults` are options that it may lack.

        Raises `ConfigurationError` or `PayloadError`.
        """
        if not isinstance(signature, Signature):
            raise ConfigurationError(
                "send_task takes a signature, such as task.s(1) or app.signature('name'), not"
                f" {signature!r:.80}."
            )
        # A clone of chunks is none any more.
        copy = signature.group() if isinstance(signature, chunks) else signature.clone()
        copy.options = {**defaults, **(copy.options or {})}
        return self._composed(copy)

    def captured(
        self, call: Callable[..., Any], options: Options, *, ignored: bool
    ) -> tuple[Any, tuple[TaskMessage, ...]]:
        """Call an `apply_async`; return its result, and the message that it has made, if any."""
        return captured(self._app, call, options, ignored=ignored, limit=self._limit)

    def _composed(self, signature: Any) -> Composed:
        match signature:
            case chord():
                raise ConfigurationError(
                    "A chord counts its tasks in the result backend at once, and no rollback takes"
                    " that back. Send a task that calls the chord, or make it a workflow with"
                    " .map()."
                )
            case group():
                return self._composed_of_group(signature)
            case _chain():
                return self._composed_of_chain(signature)
            case _:
                return self._composed_of_task(signature)

    def _composed_of_task(self, signature: Any) -> Composed:
        task = self._app.tasks.get(signature.task)
        call = partial(self._app.send_task, signature.task) if task is None else task.apply_async
        options = dict(signature.options)
        ignored = bool(options.pop("ignore_result", getattr(task, "ignore_result", False)))
        call = partial(call, signature.args, signature.kwargs)
        result, messages = self.captured(call, options, ignored=ignored)
        return Composed(result.id, messages)

    def _composed_of_group(self, signature: Any) -> Composed:
        """Send its tasks one by one: each is a message of its own, and knows the group's id."""
        options = dict(signature.options)
        group_id = options.pop("task_id", None) or uuid()
        messages: list[TaskMessage] = []
        for index, task in enumerate(_members(signature, self._app)):
            task.options = _merged(task.options, options)
            task.options |= {"group_id": group_id, "group_index": index}
            messages += self._composed(task).messages
        return Composed(group_id, tuple(messages))

    def _composed_of_chain(self, signature: Any) -> Composed:
        """Send the first task, whose message has the others in it, as `_chain.run` does."""
        options = dict(signature.options)
        of_steps = {
            name: options.pop(name, None)
            for name in ("root_id", "parent_id", "link_error", "group_id", "group_index")
        }
        links = options.pop("link", None)
        steps, results = signature.prepare_steps(
            signature.args,
            {},  # those of a chain are its steps
            signature.tasks,
            app=self._app,
            last_task_id=options.pop("task_id", None),
            chord_body=options.pop("chord", None),
            **of_steps,
        )
        if not steps:
            raise ConfigurationError("This chain has no tasks. Send one that has.")
        for link in maybe_list(links) or ():
            steps[0].link(link)
        first = steps.pop()
        first.options = _merged(first.options, options)
        if steps:
            first.options["chain"] = [*first.options.get("chain", ()), *steps]
        composed = self._composed(first)
        return Composed(results[0].id, composed.messages) if steps else composed


def _members(signature: Any, app: Celery) -> Iterator[Any]:
    """The tasks and chains of a group; those of a group in it are its own, as Celery has it."""
    for one in signature.tasks:
        task = maybe_signature(one, app=app, clone=True)
        if isinstance(task, group):
            yield from _members(task, app)
        else:
            yield task


def _merged(own: Options, options: Options) -> dict[str, Any]:
    """The options of a task in a canvas: those of the canvas go before its own."""
    kept = {name: own[name] for name in IMMUTABLE if name in own}
    return {**own, **options, **kept}
