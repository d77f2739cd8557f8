"""The core has no clock, no chance, no I/O, and knows nothing of what is above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_durable.core

CORE = Path(celery_durable.core.__file__).parent
MODULES = sorted(CORE.glob("*.py"))

ALLOWED = frozenset(
    {"__future__", "collections", "dataclasses", "datetime", "enum", "functools", "itertools"}
    | {"decimal", "json", "math", "shlex", "typing", "typing_extensions", "uuid"}
)
"""Modules without a clock, chance or I/O, but for the calls below."""

ALLOWED_HERE = ("celery_durable.core", "celery_durable.errors")

IMPURE_CALLS = frozenset(
    {"now", "utcnow", "today", "fromtimestamp", "uuid1", "uuid4", "uuid7", "getnode"}
    | {"open", "print", "input", "eval", "exec", "__import__", "shlex"}
)


def imports(tree: ast.AST) -> Iterator[str]:
    """What a module imports; a name from a package counts as that package's module."""
    for found in ast.walk(tree):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            yield "." * found.level + (found.module or "")


def calls(tree: ast.AST) -> Iterator[str]:
    for found in ast.walk(tree):
        if isinstance(found, ast.Call):
            if isinstance(found.func, ast.Attribute):
                yield found.func.attr
            elif isinstance(found.func, ast.Name):
                yield found.func.id


def impurities(source: str) -> list[str]:
    tree = ast.parse(source)
    foreign = [name for name in imports(tree) if not is_allowed(name)]
    return foreign + sorted(IMPURE_CALLS.intersection(calls(tree)))


def is_allowed(module: str) -> bool:
    inside = any(module == here or module.startswith(f"{here}.") for here in ALLOWED_HERE)
    return inside or module.partition(".")[0] in ALLOWED


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_core_is_pure(path: Path) -> None:
    assert impurities(path.read_text()) == []


def test_every_module_of_the_core_is_listed_in_its_introduction() -> None:
    told = celery_durable.core.__doc__ or ""
    listed = {line.split()[0] for line in told.splitlines() if line.startswith("    ")}
    assert listed == {path.stem for path in MODULES} - {"__init__"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import sqlalchemy as sa", "sqlalchemy"),
        ("from celery import Celery", "celery"),
        ("import time", "time"),
        ("import random", "random"),
        ("import os.path", "os.path"),
        ("import logging", "logging"),
        ("from celery_durable.store import codec", "celery_durable.store"),
        ("from celery_durable import settings", "celery_durable"),
        ("from .. import settings", ".."),
        ("def f():\n    import psycopg", "psycopg"),
        ("datetime.now(UTC)", "now"),
        ("uuid4()", "uuid4"),
        ("open('x')", "open"),
    ],
)
def test_this_check_sees_what_is_impure(source: str, found: str) -> None:
    assert impurities(source) == [found]
