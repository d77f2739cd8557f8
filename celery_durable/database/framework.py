"""What a framework that owns the database, such as Django, does in place of the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from celery_durable.database.connections import Database
from celery_durable.settings import Settings
from celery_durable.store.connection import Connection


class Framework(Protocol):
    """A framework in whose database the tables are, and whose transactions calls join."""

    def database(self, settings: Settings) -> Database:
        """Make the connections of this process. Raises `ConfigurationError`."""
        ...

    def open_transaction(self) -> object:
        """Return what stands for the transaction that the caller has open; None without one."""
        ...

    def connection(self, session: object, schema: str) -> Connection | None:
        """Return a connection in the transaction of `session`; None if it is not the framework's.

        Raises `ConfigurationError` where there is no transaction to join.
        """
        ...

    def after_commit(self, session: object, call: Callable[[], None]) -> bool:
        """Call it when the transaction of `session` has committed; False if it is not ours."""
        ...

    def around_units(self) -> None:
        """Called before and after each unit, in its thread."""
        ...
