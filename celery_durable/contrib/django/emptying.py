"""Empties the tables where Django empties its own, and lets go of a database that a test drops.

Django flushes tables of models that it manages; ours are none. `TransactionTestCase` flushes after
each test, and a test's database cannot be dropped while somebody is connected to it.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from celery_durable.contrib.django.framework import DjangoFramework
from celery_durable.contrib.django.project import get_durable
from celery_durable.database import schema
from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError


def empty_if_flushed(using: str, **passed: Any) -> None:
    """Called after `migrate`, which passes a plan, and after `flush`, which passes none."""
    durable = None if "plan" in passed else _durable_in(using)
    if durable is not None:
        engine, name = durable.database.engine, durable.settings.schema
        with engine.connect() as connection:
            is_there = schema.current(connection, name) is not None
        if is_there:
            schema.empty(engine, name)


def let_go_before_destroyed(creation: Any) -> None:
    """Have the library close its idle connections before Django drops a test's database."""
    destroy = creation.destroy_test_db

    @wraps(destroy)
    def let_go_and_destroy(*args: Any, **options: Any) -> None:
        durable = _durable_in(creation.connection.alias)
        if durable is not None and "database" in vars(durable):
            durable.liveness.leave()
            durable.database.close()
        destroy(*args, **options)

    creation.destroy_test_db = let_go_and_destroy


def _durable_in(alias: str) -> Durable | None:
    """Return the project's Durable if its tables are in the database `alias`."""
    try:
        durable = get_durable()
        framework = durable.framework
    except ConfigurationError:
        return None
    is_here = isinstance(framework, DjangoFramework) and framework.alias == alias
    return durable if is_here else None
