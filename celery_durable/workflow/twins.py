"""Compares two definitions of one workflow and version, and refuses them if they differ.

A module that is imported twice, under another name or reloaded, makes new functions of the same
source. So two functions are the same if they are written at the same place, and were made with the
same plain values.
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
    """Raise `DuplicateWorkflow`, which says where and how they differ, unless both are the same."""
    difference = _difference(one, other)
    if difference is not None:
        raise DuplicateWorkflow(
            f"Two different workflows are called {one.name!r} version {one.version}, at"
            f" {one.defined_at} and {other.defined_at}: {difference}."
            " Give one another name, or the next version."
        )


def _difference(one: Workflow, other: Workflow) -> str | None:
    # Compare their text: exception classes of a module that was imported twice are not equal.
    if repr(one.plan) != repr(other.plan):
        return f"{' -> '.join(one.steps)} and {' -> '.join(other.steps)}"
    if one.hooks != other.hooks:
        return "they send other tasks at the end of a run"
    theirs = other.callables
    for name, function in one.callables.items():
        if _source_of(function) != _source_of(theirs[name]):
            return (
                f"{name} is {_location(function)} in one and {_location(theirs[name])} in the other"
            )
        if _values_in(function) != _values_in(theirs[name]):
            return f"{name} is {_location(function)} in both, but was made with other values"
    return None


def _source_of(function: Any) -> tuple[object, ...]:
    """Return where the function is written; of a function that is not Python, its name."""
    code = getattr(_innermost(function), "__code__", None)
    if code is not None:
        # A script's path may be relative. Equality of code objects includes lines and columns, and
        # leaves out the file.
        return Path(code.co_filename).absolute(), code
    named = function if hasattr(function, "__qualname__") else type(function)
    return named.__module__, named.__qualname__


def _values_in(function: Any) -> list[object]:
    """Return the plain values in the function's closure, defaults and partial arguments.

    Others cannot be compared: an object of a module that was imported twice equals no other.
    """
    *partials, found = _layers(function)
    values: list[object] = []
    for partial in partials:
        values += [*partial.args, *partial.keywords.items()]
    values += getattr(found, "__defaults__", None) or ()
    values += (getattr(found, "__kwdefaults__", None) or {}).items()
    values += _cell_values(found)
    return [value for value in values if _is_plain(value)]


def _cell_values(function: Any) -> list[object]:
    cells = getattr(function, "__closure__", None) or ()
    # A cell is empty until its variable is assigned.
    return [cell.cell_contents for cell in cells if cell != _EMPTY_CELL]


_EMPTY_CELL = CellType()


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in {bool, int, float, str, bytes}


def _location(function: Any) -> str:
    innermost = _innermost(function)
    code = getattr(innermost, "__code__", None)
    return f"{innermost.__module__}:{code.co_firstlineno}" if code else repr(function)


def _innermost(function: Any) -> Any:
    """Return the function behind decorators, partials, methods and callable objects."""
    return _layers(function)[-1]


def _layers(function: Any) -> list[Any]:
    """Return the partials around the innermost function, outermost first, and that function."""
    found = inspect.unwrap(function)
    if isinstance(found, functools.partial):
        return [found, *_layers(found.func)]
    if inspect.ismethod(found):
        return [found.__func__]
    call = type(found).__call__
    is_object = not hasattr(found, "__code__") and hasattr(call, "__code__")
    return [call if is_object else found]
