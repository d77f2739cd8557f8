"""Makes the definition of a node: one function for each kind of node, which checks its arguments.

An error names the method, the node and the argument, and leaves the workflow as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

from celery_durable.arguments import names_of, whole_of
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
    Tolerance,
)
from celery_durable.core.plan import MOST_ITEMS
from celery_durable.errors import InvalidWorkflow, nearest, seconds_of
from celery_durable.workflow.arguments import choice, count, duration, flag, wrong
from celery_durable.workflow.definition import (
    STEP_WORDS,
    AnyWorkflow,
    Awaited,
    Functions,
    NodeDefinition,
    Part,
    as_part,
    own_name,
)
from celery_durable.workflow.schemas import checked_model, json_schema
from celery_durable.workflow.step import Handler, adopted, as_step, checked_handler

MOST_ITERATIONS = 2**31 - 1
"""The largest `integer` of Postgres: the position of an iteration is stored as one."""

DEFAULT_CASE = "default"
"""The name of the case that `default=` adds to a route."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return self.value


MISSING = Missing.MISSING
"""The default of an argument for which None has a meaning of its own."""


def step(
    handler: object,
    name: str | None,
    args: Handler | None,
    kwargs: Handler | None,
    options: Mapping[str, Any],
) -> NodeDefinition:
    """Define a step; a workflow in its place runs as a child."""
    task = adopted(handler, args, kwargs, name)
    if task is None and isinstance(handler, AnyWorkflow):
        return _workflow_as_step(handler, name, {"args": args, "kwargs": kwargs, **options})
    part = (task or as_step(handler, args, kwargs, name)).with_options(name, options)
    return NodeDefinition(part.name, _the_body, {None: part})


def _workflow_as_step(
    workflow: AnyWorkflow, name: str | None, options: Mapping[str, Any]
) -> NodeDefinition:
    name = checked_name("step", workflow.name if name is None else name)
    for option, value in options.items():
        if value is not None:
            raise InvalidWorkflow(
                f"step {name!r} runs a workflow, which takes no {option}=; give the options to the"
                " steps in it, or use .child_workflow, which takes map_input, version, compensate."
            )
    return NodeDefinition(name, _the_body, {None: ChildNode(name, workflow.name, workflow.version)})


def _the_body(bodies: tuple[Body, ...]) -> Node:
    (body,) = bodies
    return body


def parallel(
    name: object, branches: object, *, fail_fast: object, map_input: object = None
) -> NodeDefinition:
    """Define a node of named branches."""
    name = checked_name("parallel", name)
    owner = f"parallel {name!r}"
    fails_fast = flag(owner, "fail_fast", fail_fast)
    make_input = _optional_function(owner, "map_input", map_input)
    parts = _named_parts(owner, "branch", _named_branches(owner, branches))
    if make_input is not None and not any(isinstance(p, ChildNode) for p in parts.values()):
        raise InvalidWorkflow(
            f"{owner}: map_input= makes the input of branches that are workflows, and it has none;"
            " leave it out."
        )
    return NodeDefinition(
        name,
        lambda bodies: ParallelNode(name, bodies, fails_fast),
        parts,
        Functions(map_input=make_input),
    )


def _named_branches(owner: str, branches: object) -> Iterable[tuple[object, object]]:
    """Return the branches with their names; those of a sequence have names of their own."""
    if isinstance(branches, Mapping):
        return branches.items()
    if isinstance(branches, Sequence) and not isinstance(branches, str | bytes):
        steps = [adopted(branch) or branch for branch in branches]
        return [(_branch_name(owner, branch), branch) for branch in steps]
    raise wrong(owner, "branches", "a sequence or a mapping of steps and workflows", branches)


def _branch_name(owner: str, branch: object) -> str:
    if not isinstance(branch, AnyWorkflow):
        checked_handler(f"a branch of {owner}", branch, STEP_WORDS)
    name = own_name(branch)
    if name is None:
        raise InvalidWorkflow(
            f"{owner}: {branch!r} has no name of its own; name the branches with a mapping,"
            " {'a name': ..., 'another': ...}."
        )
    return name


def _named_parts(
    owner: str, kind: Literal["branch", "case"], handlers: Iterable[tuple[object, object]]
) -> dict[str | None, Part]:
    parts: dict[str | None, Part] = {}
    for key, handler in handlers:
        name = checked_name(kind, key)
        if name in parts:
            raise InvalidWorkflow(
                f"{owner} has two branches called {name!r}; name them with a mapping,"
                " {'a name': ..., 'another': ...}."
            )
        parts[name] = as_part(f"{kind} {name!r} of {owner}", handler, name)
    if not parts:
        plural = {"branch": "branches", "case": "cases"}[kind]
        raise InvalidWorkflow(f"{owner} has no {plural}; give it one at least.")
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
    tolerate: object,
) -> NodeDefinition:
    """Define a node with one branch for each item."""
    name = checked_name("map", name)
    owner = f"map {name!r}"
    list_items = checked_handler(f"over= of {owner}", over)
    window = None
    if max_concurrency is not None:
        window = count(owner, "max_concurrency", max_concurrency, MOST_ITEMS)
    chunk_size = count(owner, "chunk", chunk, MOST_ITEMS)
    fails_fast = flag(owner, "fail_fast", fail_fast)
    keeps_errors = choice(owner, "on_error", on_error, ("fail", "keep")) == "keep"
    if window is not None and chunk_size > window:
        raise InvalidWorkflow(
            f"{owner}: chunk={chunk_size} is more items than max_concurrency={window} lets begin;"
            " lower the one or raise the other."
        )
    if fails_fast and keeps_errors:
        raise InvalidWorkflow(
            f"{owner}: with on_error='keep' no item fails the node, so fail_fast=True has no"
            " meaning; leave one of them out."
        )
    tolerance = _tolerance(owner, tolerate)
    if tolerance is not None and keeps_errors:
        raise InvalidWorkflow(
            f"{owner}: with on_error='keep' any number of items may fail, so tolerate= has no"
            " meaning; leave one of them out."
        )
    if tolerance is not None and fails_fast:
        raise InvalidWorkflow(
            f"{owner}: fail_fast=True drops items at the first failure, which tolerate= lets pass;"
            " leave one of them out."
        )
    return NodeDefinition(
        name,
        lambda bodies: MapNode(
            name, bodies[0], window, chunk_size, fails_fast, keeps_errors, tolerance
        ),
        _only_part(owner, name, handler),
        Functions(over=list_items),
    )


PERCENTAGE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%", re.ASCII)


def _tolerance(owner: str, value: object) -> Tolerance | None:
    """Return how many items may fail: `value` is a number of items, or a text such as "5%"."""
    if value is None:
        return None
    items = whole_of(value, 0, MOST_ITEMS)
    if items is not None:
        return Tolerance(items)
    found = PERCENTAGE.fullmatch(value) if isinstance(value, str) else None
    if found is None or Decimal(found[1]) > 100:  # noqa: PLR2004 - per cent
        expected = f"a whole number of items from 0 to {MOST_ITEMS}, or a percentage such as '5%'"
        raise wrong(owner, "tolerate", expected, value)
    return Tolerance(percent=Decimal(found[1]))


def _only_part(owner: str, name: str, handler: object) -> dict[str | None, Part]:
    """Return the only part of a node; a function without a name of its own has the node's."""
    handler = adopted(handler) or handler
    return {None: as_part(f"handler of {owner}", handler, own_name(handler) or name)}


def route(name: object, selector: object, cases: object, *, default: object) -> NodeDefinition:
    """Define a node that executes one of several cases."""
    name = checked_name("route", name)
    owner = f"route {name!r}"
    choose = checked_handler(f"selector of {owner}", selector)
    if not isinstance(cases, Mapping):
        raise wrong(owner, "cases", "a mapping of answers to steps and workflows", cases)
    parts = _named_parts(owner, "case", cases.items())
    default_case = _default_case(owner, parts, default)
    return NodeDefinition(
        name,
        lambda bodies: RouteNode(name, bodies, default_case),
        parts,
        Functions(selector=choose),
    )


def _default_case(
    owner: str, parts: dict[str | None, Part], default: object
) -> str | Literal[False] | None:
    """Return the case for answers that name none; False if they fail the node.

    A step or workflow as the default is added to `parts`.
    """
    if default is MISSING:
        return False
    if default is None:
        return None
    default = adopted(default) or default
    if isinstance(default, str):
        return _known_case(owner, parts, default)
    part = as_part(f"default= of {owner}", default, DEFAULT_CASE)
    if DEFAULT_CASE in parts:
        raise InvalidWorkflow(
            f"{owner} has a case {DEFAULT_CASE!r} already, which is what default= would be called;"
            f" say default={DEFAULT_CASE!r}, or call that case something else."
        )
    parts[DEFAULT_CASE] = part
    return DEFAULT_CASE


def _known_case(owner: str, parts: Mapping[str | None, Part], name: str) -> str:
    if name not in parts:
        known = [str(case) for case in parts]
        raise InvalidWorkflow(
            f"{owner}: default={name!r} is no case of it; its cases are {', '.join(known)}."
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
) -> NodeDefinition:
    """Define a node that repeats a handler."""
    name = checked_name("loop", name)
    owner = f"loop {name!r}"
    max_count = count(owner, "max_iterations", max_iterations, MOST_ITERATIONS)
    pause = duration(owner, "every", every) or 0.0
    fails = choice(owner, "on_exhausted", on_exhausted, ("complete", "fail")) == "fail"
    if fails and until is None:
        raise InvalidWorkflow(
            f"{owner}: on_exhausted='fail' fails every run without until=; give it until=, or leave"
            " on_exhausted out."
        )
    functions = Functions(
        until=_optional_function(
            owner, "until", until, "a function of a result and the iterations done"
        ),
        feedback=_optional_function(owner, "feedback", feedback, "a function of a result"),
        map_input=_optional_function(owner, "map_input", map_input),
    )
    return NodeDefinition(
        name,
        lambda bodies: LoopNode(name, bodies[0], max_count, pause, fails),
        _only_part(owner, name, handler),
        functions,
    )


def _optional_function(
    owner: str, name: str, function: object, takes: str = "a function of the context"
) -> Callable[..., Any] | None:
    return None if function is None else checked_handler(f"{name}= of {owner}", function, takes)


def sleep(name: object, length: object) -> NodeDefinition:
    """Define a sleep."""
    name = checked_name("sleep", name)
    seconds, function = _duration(f"sleep {name!r}", length)
    functions = Functions(duration=function)
    return NodeDefinition(name, lambda _: SleepNode(name, seconds), {}, functions)


def _duration(owner: str, length: object) -> tuple[float | None, Handler | None]:
    """Return the seconds to sleep, or the function that returns how long or until when."""
    if isinstance(length, datetime):
        moment = length
        if moment.utcoffset() is None:
            raise InvalidWorkflow(
                f"{owner}: {moment!r} has no time zone, so nobody knows when it is; give it one,"
                " for example tzinfo=datetime.UTC."
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
        raise wrong(owner, "duration", expected, length)
    return seconds, None


def signal(
    name: object,
    signal: object,
    *,
    timeout: object,
    on_timeout: object,
    schema: object,
    assignees: object,
) -> NodeDefinition:
    """Define a wait for a signal, which by default has the node's name."""
    name = checked_name("wait_for_signal", name)
    owner = f"wait_for_signal {name!r}"
    awaited = name if signal is None else checked_name("signal", signal)
    limit = duration(owner, "timeout", timeout)
    continues = choice(owner, "on_timeout", on_timeout, ("fail", "continue")) == "continue"
    if continues and limit is None:
        raise InvalidWorkflow(
            f"{owner}: on_timeout='continue' needs a timeout=; without one the wait has no end."
        )
    model = checked_model(owner, "schema", schema)
    finds, function = callable(assignees), assignees if callable(assignees) else None
    names = None if function is not None else _assignees(owner, assignees)
    if names is None and model is not None:
        names = ()

    def make_node(_: tuple[Body, ...]) -> SignalNode:
        described = json_schema(model)
        text = None if described is None else json.dumps(described)
        return SignalNode(name, awaited, limit, continues, text, names, finds)

    functions = Functions(assignees=function)
    return NodeDefinition(name, make_node, {}, functions, Awaited(awaited, model))


def _assignees(owner: str, value: object) -> tuple[str, ...] | None:
    """Return the names of those who may answer; None for None."""
    try:
        return None if value is None else names_of(value)
    except (TypeError, ValueError) as error:
        raise InvalidWorkflow(
            f"{owner}: assignees= takes a sequence of names, or a function of the context that"
            f" returns one: {error}"
        ) from error


def child(
    name: object, workflow: object, *, map_input: object, version: object, compensate: object
) -> NodeDefinition:
    """Define a child run of `workflow`, which is a workflow or the name of one."""
    name = checked_name("child_workflow", name)
    owner = f"child_workflow {name!r}"
    child_name, child_version = _child_workflow(owner, workflow, _version(owner, version))
    cascade = compensate is not None
    if cascade and compensate != "cascade":
        raise wrong(owner, "compensate", "None or 'cascade'", compensate)
    part = ChildNode(name, child_name, child_version, cascade)
    functions = Functions(map_input=_optional_function(owner, "map_input", map_input))
    return NodeDefinition(name, _the_body, {None: part}, functions)


def _child_workflow(owner: str, workflow: object, version: int | None) -> tuple[str, int | None]:
    """Return the name and the version of the child's workflow; None is the highest version."""
    if isinstance(workflow, str):
        return checked_name("workflow", workflow), version
    if not isinstance(workflow, AnyWorkflow):
        raise wrong(owner, "workflow", "a workflow or the name of one", workflow)
    if version not in (None, workflow.version):
        raise InvalidWorkflow(
            f"{owner}: the workflow given is version {workflow.version} of {workflow.name!r}, not"
            f" version={version}; give its name, {workflow.name!r}, to run another version."
        )
    return workflow.name, workflow.version


def _version(owner: str, version: object) -> int | None:
    return None if version is None else count(owner, "version", version, HIGHEST_VERSION)
