"""Takes a canvas of Celery apart: what it calls, in which order, and what is handed on.

A canvas is a sequence of parts. What a part results in goes to the next one, which puts it before
its own arguments, unless it is immutable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from celery.canvas import Signature, _basemap, _chain, _chord, chunks, group, maybe_signature, xmap

from celery_durable.arguments import whole_of
from celery_durable.core.plan import MOST_ITEMS
from celery_durable.errors import InvalidWorkflow

Args = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class NamedTask:
    """A task that is known by its name, until it is looked up in the app of `host`."""

    host: Any
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a task. `wait` is how many seconds before it, or until when."""

    task: Any
    name: str
    args: Args
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    is_immutable: bool
    wait: float | datetime | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """A call for each item, one after the other; `size` is how many of them make a chunk."""

    task: Any
    name: str
    items: Sequence[Any]
    is_star: bool
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences that run at the same time; the result is the list of theirs."""

    members: tuple[tuple[Part, ...], ...]


Part = Call | Each | Group


KEPT = ("queue", "priority")

EACH = ("celery.map", "celery.starmap", "celery.chunks")
WHOLE = ("celery.chain", "celery.group", "celery.chord")
"""Tasks by which Celery executes a canvas: of each item, or as a whole."""

WITHOUT_EFFECT = frozenset(
    ("serializer", "compression", "delivery_mode", "ignore_result", "shadow", "retry")
)
"""Options of a message or of its stored result: a step has neither."""

REFUSED: Mapping[str, str] = {
    "link": "make it the next task of a chain",
    "expires": "say expires= of the start",
    "retries": "say max_retries of the task, or make a step of it with retry=",
    **dict.fromkeys(("exchange", "exchange_type", "routing_key"), "say queue= in place of it"),
    **dict.fromkeys(
        ("task_id", "group_id", "root_id", "parent_id", "chord", "chain", "group_index"),
        "it has been frozen or sent already; make the canvas anew",
    ),
}
"""Options that a signature in a canvas must not have, and what to do instead."""


class Canvas:
    """A canvas, taken apart; `what` is what errors call it. Raises `InvalidWorkflow`."""

    def __init__(self, what: str, canvas: object, host: Any) -> None:
        self._what = what
        self._host = host
        self._on_error: list[Signature] = []
        if not isinstance(canvas, Signature):
            raise InvalidWorkflow(
                f"{what} takes a canvas, such as chain(first.s(1), then.s()), not {canvas!r:.80}."
            )
        self.parts = self._sequence(canvas)
        if not self.parts:
            raise InvalidWorkflow(f"{what}: the canvas is empty; put a task into it.")

    @property
    def on_error(self) -> Signature | None:
        """The one signature that `link_error` names."""
        if not self._on_error:
            return None
        first, *more = self._on_error
        if any(dict(other) != dict(first) for other in more):
            raise InvalidWorkflow(
                f"{self._what}: link_error names several tasks, and a workflow has one on_failed:"
                " send a task that sends the others."
            )
        return first

    def _sequence(self, found: Any) -> tuple[Part, ...]:
        signature: Any = maybe_signature(found)
        match signature:
            case _chain():
                return self._chain(signature)
            case _chord():
                return self._chord(signature)
            case group():
                return self._group(signature)
            case _basemap() | chunks():
                return (self._each(signature),)
            case _ if signature.task in EACH:  # what Celery makes of chunks in a chain
                return (self._each(signature),)
            case _ if signature.task in WHOLE:
                raise InvalidWorkflow(
                    f"{self._what}: a signature of the task {signature.task} cannot be taken apart:"
                    " write the canvas with chain, group and chord of celery."
                )
            case _:
                return (self._call(signature),)

    def _chain(self, whole: Any) -> tuple[Part, ...]:
        self._check_whole("chain", whole)
        parts = [part for task in whole.tasks for part in self._link(task)]
        return _begun_with(parts, whole.args, is_immutable=whole.immutable)

    def _chord(self, whole: Any) -> tuple[Part, ...]:
        self._check_whole("chord", whole)
        members = self._members(whole.tasks)
        body = () if whole.body is None else self._sequence(whole.body)
        parts = [Group(members), *body] if members else body
        return _begun_with(parts, whole.args, is_immutable=whole.immutable)

    def _group(self, whole: Any) -> tuple[Part, ...]:
        self._check_whole("group", whole)
        parts = [Group(self._members(whole.tasks))]
        return _begun_with(parts, whole.args, is_immutable=whole.immutable)

    def _link(self, found: Any) -> tuple[Part, ...]:
        """Return the parts of a link of a chain: a group of one is that one, an empty one none."""
        parts = self._sequence(found)
        match parts:
            case (Group(members=()),):
                return ()
            case (Group(members=(only,)),) if isinstance(found, group):
                return only
            case _:
                return parts

    def _members(self, tasks: Any) -> tuple[tuple[Part, ...], ...]:
        found = tasks.tasks if isinstance(tasks, group) else tasks
        return tuple(self._each_member(found))

    def _each_member(self, tasks: Any) -> Iterator[tuple[Part, ...]]:
        """Yield the members; a group in a group has its members in that one, as Celery has it."""
        for task in tasks:
            parts = self._sequence(task)
            match parts:
                case (Group(members=members),):
                    yield from members
                case ():
                    pass
                case _:
                    yield parts

    def _call(self, signature: Any) -> Call:
        name = signature.task
        owner = f"{self._what}: the signature of {name}"
        options = {key: value for key, value in signature.options.items() if value is not None}
        self._take_on_error(options)
        kept = {key: options.pop(key) for key in KEPT if key in options}
        limits = [options.pop(key, None) for key in ("soft_time_limit", "time_limit")]
        if any(limits):
            kept["timeout"] = limits[0] or limits[1]
        wait = _wait(owner, options.pop("countdown", None), options.pop("eta", None))
        _refuse(owner, options)
        return Call(
            self._task(signature),
            str(name).rpartition(".")[2],
            deepcopy(tuple(signature.args)),  # the caller may change them later
            deepcopy(dict(signature.kwargs)),
            kept,
            bool(signature.immutable),
            wait,
        )

    def _each(self, signature: Any) -> Each:
        self._check_whole(signature.task, signature)
        inner: Any = maybe_signature(signature.kwargs["task"])
        if inner.args or inner.kwargs:
            raise InvalidWorkflow(
                f"{self._what}: {inner.task} has arguments of its own in {signature.task}, which"
                " Celery leaves out: make a group of signatures, or put them into the items."
            )
        call = self._call(inner)
        return Each(
            call.task,
            call.name,
            deepcopy(tuple(signature.kwargs["it"])),
            is_star=signature.task != xmap._task_name,  # noqa: SLF001
            size=self._size(signature),
        )

    def _size(self, signature: Any) -> int | None:
        size: int | None = signature.kwargs.get("n")
        if size is not None and whole_of(size, 1, MOST_ITEMS) is None:
            raise InvalidWorkflow(
                f"{self._what}: chunks of {size!r} items; say how many, from 1 on."
            )
        return size

    def _task(self, signature: Any) -> Any:
        bound = signature._type  # noqa: SLF001 - `.type` would look it up, and finalize the app
        return NamedTask(self._host, signature.task) if bound is None else bound

    def _check_whole(self, kind: str, signature: Any) -> None:
        """Check the options of what stands for several tasks: they belong to each of those."""
        options = {key: value for key, value in signature.options.items() if value is not None}
        self._take_on_error(options)
        owner = f"{self._what}: a {kind}"
        for key in (*KEPT, "countdown", "eta", "soft_time_limit", "time_limit"):
            if key in options:
                raise InvalidWorkflow(f"{owner} has the option {key!r}; say it of each task in it.")
        _refuse(owner, options)

    def _take_on_error(self, options: dict[str, Any]) -> None:
        found = options.pop("link_error", None) or []
        each = found if isinstance(found, list | tuple) else [found]
        for one in each:
            errback: Any = maybe_signature(one, clone=True)
            # A chord puts it among the options of the copies that the tasks of its header get.
            errback.options.pop("immutable", None)
            self._on_error.append(errback)


def _refuse(owner: str, options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if key in WITHOUT_EFFECT or value in ([], {}, ()):
            continue
        instead = REFUSED.get(key, "a step takes queue, priority, countdown, eta and time limits")
        raise InvalidWorkflow(f"{owner} has the option {key!r}, which a step has not: {instead}.")


def _wait(owner: str, countdown: Any, eta: Any) -> float | datetime | None:
    if eta is None:
        return None if countdown is None else max(float(countdown), 0.0)
    if not isinstance(eta, datetime) or eta.utcoffset() is None:
        raise InvalidWorkflow(
            f"{owner} has the eta {eta!r}, which takes a datetime with a time zone."
        )
    return eta


def _begun_with(
    parts: Sequence[Part], args: Sequence[Any], *, is_immutable: bool
) -> tuple[Part, ...]:
    """Return the parts of a chain, group or chord; arguments of its own are for the first."""
    own = deepcopy(tuple(args))
    first = [_with_arguments(part, own, is_immutable=is_immutable) for part in parts[:1]]
    return (*first, *parts[1:])


def _with_arguments(part: Part, args: Args, *, is_immutable: bool) -> Part:
    match part:
        case Call(is_immutable=False):
            return replace(part, args=(*args, *part.args), is_immutable=is_immutable)
        case Group():
            begun = [
                _begun_with(member, args, is_immutable=is_immutable) for member in part.members
            ]
            return Group(tuple(begun))
        case _:
            return part
