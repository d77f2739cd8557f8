"""One function for each kind of node: its arguments checked, and what is written of it.

A refusal names the method, the node and the argument, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from celery_durable.core.names import HIGHEST_VERSION, checked_name
from celery_durable.core.nodes import (
    Body,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
)
from celery_durable.core.plan import MOST_ITEMS
from celery_durable.errors import InvalidWorkflow, nearest, seconds_of
from celery_durable.workflow.arguments import choice, count, duration, flag, wrong
from celery_durable.workflow.definition import (
    STEP_WORDS,
    Definition,
    Entry,
    Functions,
    Part,
    as_part,
    own_name,
)
from celery_durable.workflow.step import Handler, as_step, checked_handler

MOST_ITERATIONS = 2**31 - 1
"""Postgres's largest integer; the position of an iteration is one."""

DEFAULT_CASE = "default"
"""What the case is called that `default=` adds to a route."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return self.value


MISSING = Missing.MISSING
"""Not given, where None has a meaning of its own."""


def step(
    handler: object,
    name: str | None,
    args: Handler | None,
    kwargs: Handler | None,
    options: Mapping[str, Any],
) -> Entry:
    """A step of its own; a workflow in its place runs as a child."""
    if isinstance(handler, Definition):
        return _workflow_as_step(handler, name, {"args": args, "kwargs": kwargs, **options})
    made = as_step(handler, args, kwargs, name).with_options(name, options)
    return Entry(made.name, _only, {None: made})


def _workflow_as_step(workflow: Definition, name: str | None, options: Mapping[str, Any]) -> Entry:
    name = checked_name("step", workflow.name if name is None else name)
    for option, value in options.items():
        if value is not None:
            raise InvalidWorkflow(
                f"step {name!r} runs a workflow, which takes no {option}=; give the options to the"
                " steps in it, or use .child_workflow, which takes map_input, version, compensate."
            )
    return Entry(name, _only, {None: ChildNode(name, workflow.name, workflow.version)})


def _only(bodies: tuple[Body, ...]) -> Node:
    (body,) = bodies
    return body


def parallel(name: object, branches: object, *, fail_fast: object) -> Entry:
    """Named branches."""
    name = checked_name("parallel", name)
    of = f"parallel {name!r}"
    fails_fast = flag(of, "fail_fast", fail_fast)
    return Entry(
        name,
        lambda bodies: ParallelNode(name, bodies, fails_fast),
        _named(of, "branch", _pairs(of, branches)),
    )


def _pairs(of: str, branches: object) -> Iterable[tuple[object, object]]:
    """Names and steps; those of a sequence are called what they are called by themselves."""
    if isinstance(branches, Mapping):
        return branches.items()
    if isinstance(branches, Sequence) and not isinstance(branches, str | bytes):
        return [(_branch_name(of, one), one) for one in branches]
    raise wrong(of, "branches", "a sequence or a mapping of steps and workflows", branches)


def _branch_name(of: str, given: object) -> str:
    if not isinstance(given, Definition):
        checked_handler(f"a branch of {of}", given, STEP_WORDS)
    name = own_name(given)
    if name is None:
        raise InvalidWorkflow(
            f"{of}: {given!r} has no name of its own; name the branches with a mapping,"
            " {'a name': ..., 'another': ...}."
        )
    return name


def _named(
    of: str, kind: Literal["branch", "case"], given: Iterable[tuple[object, object]]
) -> dict[str | None, Part]:
    parts: dict[str | None, Part] = {}
    for key, one in given:
        name = checked_name(kind, key)
        if name in parts:
            raise InvalidWorkflow(
                f"{of} has two branches called {name!r}; name them with a mapping,"
                " {'a name': ..., 'another': ...}."
            )
        parts[name] = as_part(f"{kind} {name!r} of {of}", one, name)
    if not parts:
        plural = {"branch": "branches", "case": "cases"}[kind]
        raise InvalidWorkflow(f"{of} has no {plural}; give it one at least.")
    return parts


def map_over(
    name: object,
    *,
    over: object,
    handler: object,
    max_concurrency: object,
    chunk: object,
    fail_fast: object,
    on_error: object,
) -> Entry:
    """One branch for each item."""
    name = checked_name("map", name)
    of = f"map {name!r}"
    items = checked_handler(f"over= of {of}", over)
    window = None
    if max_concurrency is not None:
        window = count(of, "max_concurrency", max_concurrency, MOST_ITEMS)
    size = count(of, "chunk", chunk, MOST_ITEMS)
    fails_fast = flag(of, "fail_fast", fail_fast)
    keeps = choice(of, "on_error", on_error, ("fail", "keep")) == "keep"
    if window is not None and size > window:
        raise InvalidWorkflow(
            f"{of}: chunk={size} is more items than max_concurrency={window} lets begin; lower the"
            " one or raise the other."
        )
    if fails_fast and keeps:
        raise InvalidWorkflow(
            f"{of}: with on_error='keep' no item fails the node, so fail_fast=True has no meaning;"
            " leave one of them out."
        )
    return Entry(
        name,
        lambda bodies: MapNode(name, bodies[0], window, size, fails_fast, keeps),
        _handler_of(of, name, handler),
        Functions(over=items),
    )


def _handler_of(of: str, name: str, handler: object) -> dict[str | None, Part]:
    """The only part of a node; a function without a name of its own has the node's."""
    return {None: as_part(f"handler of {of}", handler, own_name(handler) or name)}


def route(name: object, selector: object, cases: object, *, default: object) -> Entry:
    """One of several cases."""
    name = checked_name("route", name)
    of = f"route {name!r}"
    choose = checked_handler(f"selector of {of}", selector)
    if not isinstance(cases, Mapping):
        raise wrong(of, "cases", "a mapping of answers to steps and workflows", cases)
    parts = _named(of, "case", cases.items())
    elsewhere = _default(of, parts, default)
    return Entry(
        name,
        lambda bodies: RouteNode(name, bodies, elsewhere),
        parts,
        Functions(selector=choose),
    )


def _default(
    of: str, parts: dict[str | None, Part], default: object
) -> str | Literal[False] | None:
    """Where an answer leads that names no case; a step given for that joins `parts`."""
    if default is MISSING:
        return False
    if default is None:
        return None
    if isinstance(default, str):
        return _known_case(of, parts, default)
    part = as_part(f"default= of {of}", default, DEFAULT_CASE)
    if DEFAULT_CASE in parts:
        raise InvalidWorkflow(
            f"{of} has a case {DEFAULT_CASE!r} already, which is what default= would be called;"
            f" say default={DEFAULT_CASE!r}, or call that case something else."
        )
    parts[DEFAULT_CASE] = part
    return DEFAULT_CASE


def _known_case(of: str, parts: Mapping[str | None, Part], name: str) -> str:
    if name not in parts:
        known = [str(case) for case in parts]
        raise InvalidWorkflow(
            f"{of}: default={name!r} is no case of it; its cases are {', '.join(known)}."
            f"{nearest(name, known)}"
        )
    return name


def loop(
    name: object,
    handler: object,
    *,
    max_iterations: object,
    until: object,
    feedback: object,
    map_input: object,
    every: object,
    on_exhausted: object,
) -> Entry:
    """A body that is repeated."""
    name = checked_name("loop", name)
    of = f"loop {name!r}"
    most = count(of, "max_iterations", max_iterations, MOST_ITERATIONS)
    between = duration(of, "every", every) or 0.0
    fails = choice(of, "on_exhausted", on_exhausted, ("complete", "fail")) == "fail"
    if fails and until is None:
        raise InvalidWorkflow(
            f"{of}: on_exhausted='fail' fails every run without until=; give it until=, or leave"
            " on_exhausted out."
        )
    functions = Functions(
        until=_optional(of, "until", until, "a function of a result and the iterations done"),
        feedback=_optional(of, "feedback", feedback, "a function of a result"),
        map_input=_optional(of, "map_input", map_input),
    )
    return Entry(
        name,
        lambda bodies: LoopNode(name, bodies[0], most, between, fails),
        _handler_of(of, name, handler),
        functions,
    )


def _optional(
    of: str, name: str, function: object, takes: str = "a function of the context"
) -> Callable[..., Any] | None:
    return None if function is None else checked_handler(f"{name}= of {of}", function, takes)


def sleep(name: object, length: object) -> Entry:
    """A time to wait."""
    name = checked_name("sleep", name)
    seconds, function = _length(f"sleep {name!r}", length)
    return Entry(name, lambda _: SleepNode(name, seconds), {}, Functions(duration=function))


def _length(of: str, length: object) -> tuple[float | None, Handler | None]:
    """The seconds to sleep, or the function that says how long or until when."""
    if isinstance(length, datetime):
        moment = length
        if moment.utcoffset() is None:
            raise InvalidWorkflow(
                f"{of}: {moment!r} has no time zone, so nobody knows when it is; give it one, for"
                " example tzinfo=datetime.UTC."
            )
        return None, lambda _context: moment
    if callable(length):
        return None, length
    seconds = seconds_of(length)
    if seconds is None:
        expected = (
            "seconds or a timedelta (not negative, at most 100 years), an aware datetime, or a"
            " function of the context that returns one of them"
        )
        raise wrong(of, "duration", expected, length)
    return seconds, None


def signal(name: object, signal: object, *, timeout: object, on_timeout: object) -> Entry:
    """A wait for a signal, which is called as the node if nothing else is said."""
    name = checked_name("wait_for_signal", name)
    of = f"wait_for_signal {name!r}"
    awaited = name if signal is None else checked_name("signal", signal)
    limit = duration(of, "timeout", timeout)
    goes_on = choice(of, "on_timeout", on_timeout, ("fail", "continue")) == "continue"
    if goes_on and limit is None:
        raise InvalidWorkflow(
            f"{of}: on_timeout='continue' needs a timeout=; without one the wait has no end."
        )
    return Entry(name, lambda _: SignalNode(name, awaited, limit, goes_on), {})


def child(
    name: object, workflow: object, *, map_input: object, version: object, compensate: object
) -> Entry:
    """A run of another workflow, which is given as such or by its name."""
    name = checked_name("child_workflow", name)
    of = f"child_workflow {name!r}"
    called, numbered = _target(of, workflow, _version(of, version))
    cascade = compensate is not None
    if cascade and compensate != "cascade":
        raise wrong(of, "compensate", "None or 'cascade'", compensate)
    made = ChildNode(name, called, numbered, cascade)
    functions = Functions(map_input=_optional(of, "map_input", map_input))
    return Entry(name, _only, {None: made}, functions)


def _target(of: str, workflow: object, version: int | None) -> tuple[str, int | None]:
    if isinstance(workflow, str):
        return checked_name("workflow", workflow), version
    if not isinstance(workflow, Definition):
        raise wrong(of, "workflow", "a workflow or the name of one", workflow)
    if version not in (None, workflow.version):
        raise InvalidWorkflow(
            f"{of}: the workflow given is version {workflow.version} of {workflow.name!r}, not"
            f" version={version}; give its name, {workflow.name!r}, to run another version."
        )
    return workflow.name, workflow.version


def _version(of: str, version: object) -> int | None:
    return None if version is None else count(of, "version", version, HIGHEST_VERSION)
