"""Whether two definitions of one workflow and version are the same.

A module that is imported twice, under another name or reloaded, makes new functions of the same
source: a function is known by where it is written, and by the plain values that it was made with.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from types import CellType
from typing import Any

from celery_durable.errors import DuplicateWorkflow
from celery_durable.workflow.builder import Workflow


def refuse_unless_same(one: Workflow, other: Workflow) -> None:
    """`DuplicateWorkflow` names the places of definitions that differ, and what differs."""
    difference = _difference(one, other)
    if difference is not None:
        raise DuplicateWorkflow(
            f"Two different workflows are called {one.name!r} version {one.version}, at"
            f" {one.defined_at} and {other.defined_at}: {difference}."
            " Give one another name, or the next version."
        )


def _difference(one: Workflow, other: Workflow) -> str | None:
    # By their words: exception classes of a module that was imported twice are not equal.
    if repr(one.plan) != repr(other.plan):
        return f"{' -> '.join(one.steps)} and {' -> '.join(other.steps)}"
    theirs = other.callables
    for name, function in one.callables.items():
        if _written(function) != _written(theirs[name]):
            return f"{name} is {_shown(function)} in one and {_shown(theirs[name])} in the other"
        if _captured(function) != _captured(theirs[name]):
            return f"{name} is {_shown(function)} in both, but was made with other values"
    return None


def _written(function: Any) -> tuple[object, ...]:
    """Where the function is written; what is not Python has its name."""
    code = getattr(_innermost(function), "__code__", None)
    if code is not None:
        # What runs as a script may be known by a relative path. Code is compared with its lines and
        # columns, and without its file.
        return Path(code.co_filename).absolute(), code
    named = function if hasattr(function, "__qualname__") else type(function)
    return named.__module__, named.__qualname__


def _captured(function: Any) -> list[object]:
    """The plain values in its closure, its defaults and its partial arguments.

    Others tell nothing: an object of a module that was imported twice equals no other.
    """
    *partials, found = _layers(function)
    values: list[object] = []
    for partial in partials:
        values += [*partial.args, *partial.keywords.items()]
    values += getattr(found, "__defaults__", None) or ()
    values += (getattr(found, "__kwdefaults__", None) or {}).items()
    values += _cells(found)
    return [value for value in values if _is_plain(value)]


def _cells(function: Any) -> list[object]:
    cells = getattr(function, "__closure__", None) or ()
    # One may be empty: what it is for has not been assigned yet.
    return [cell.cell_contents for cell in cells if cell != _EMPTY]


_EMPTY = CellType()


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in {bool, int, float, str, bytes}


def _shown(function: Any) -> str:
    innermost = _innermost(function)
    code = getattr(innermost, "__code__", None)
    return f"{innermost.__module__}:{code.co_firstlineno}" if code else repr(function)


def _innermost(function: Any) -> Any:
    """The function behind decorators, partials, methods and objects that can be called."""
    return _layers(function)[-1]


def _layers(function: Any) -> list[Any]:
    """The partials around the innermost function, from the outermost, and that function."""
    found = inspect.unwrap(function)
    if isinstance(found, functools.partial):
        return [found, *_layers(found.func)]
    if inspect.ismethod(found):
        return [found.__func__]
    call = type(found).__call__
    is_object = not hasattr(found, "__code__") and hasattr(call, "__code__")
    return [call if is_object else found]
