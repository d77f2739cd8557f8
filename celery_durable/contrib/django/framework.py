"""What Django does in place of the library: its database, its transactions, its connections."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings as django_settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error as DjangoError
from django.utils.connection import ConnectionProxy

from celery_durable.contrib.django.connections import DjangoDatabase, connection_to, place_of
from celery_durable.contrib.django.transaction import DjangoConnection, is_open
from celery_durable.errors import ConfigurationError
from celery_durable.settings import PREFIX, Settings
from celery_durable.store.connection import Connection
from celery_durable.worker.host import Host

logger = logging.getLogger(__name__)

ALIAS, URL = f"{PREFIX}django_alias", f"{PREFIX}database_url"


def framework_of(host: Host) -> DjangoFramework | None:
    """Return Django for a Durable without a database URL of its own; None for another one.

    Raises `ConfigurationError` if Django's settings have a URL too.
    """
    conf = host.app.conf
    if conf.get(URL) is None:
        return DjangoFramework(host, conf.get(ALIAS) or "default")
    prefix = f"{host.app.namespace.rstrip('_')}_" if host.app.namespace else ""
    spelled = f"{prefix}{URL}".upper()
    if hasattr(django_settings, spelled):
        raise ConfigurationError(
            f"Django's settings have {spelled}, and celery_durable.contrib.django takes the address"
            f" from DATABASES. Remove {spelled}; {f'{prefix}{ALIAS}'.upper()} names the alias."
        )
    return None


class DjangoFramework:
    """The Django project that a Durable belongs to."""

    def __init__(self, host: Host, alias: str) -> None:
        self._host = host
        self.alias = alias

    def database(self, settings: Settings) -> DjangoDatabase:
        """Make the connections of this process. Raises `ConfigurationError`."""
        if os.environ.get("DURABLE_DATABASE_URL"):
            logger.warning(
                "The environment variable DURABLE_DATABASE_URL is not used: the tables are in"
                " DATABASES[%r] of Django's settings",
                self.alias,
            )
        return DjangoDatabase(
            self.alias,
            direct_url=settings.direct_database_url,
            schema=settings.schema,
            moved=self._moved,
        )

    def _moved(self) -> None:
        """Called when Django has put another database in place: plans are to be stored there."""
        self._host.run_factory.forget()

    def open_transaction(self) -> object:
        """Return Django's connection, if a transaction is open on it in this thread; else None."""
        connection = connection_to(self.alias)
        return connection if is_open(connection) else None

    def connection(self, session: object, schema: str) -> Connection | None:
        """Return a connection in the transaction of an alias or a connection of Django's.

        None for what is neither. Raises `ConfigurationError` if no transaction is open there, or if
        the tables are in another database.
        """
        wrapper = _wrapper_of(session)
        if wrapper is None:
            return None
        if wrapper.alias != self.alias and place_of(wrapper.alias) != place_of(self.alias):
            raise ConfigurationError(
                f"session= is the database {wrapper.alias!r}, and the tables are in {self.alias!r}."
                " A run can be started in a transaction of the database that has the tables."
            )
        if not is_open(wrapper):
            raise ConfigurationError(
                f"session= is the database {wrapper.alias!r}, and no transaction is open there; put"
                f" the call into `with transaction.atomic(using={wrapper.alias!r}):`, or leave"
                " session= out."
            )
        return DjangoConnection(wrapper, schema)

    def after_commit(self, session: object, call: Callable[[], None]) -> bool:
        """Call it when the transaction of Django's connection has committed; False for another."""
        wrapper = _wrapper_of(session)
        if wrapper is None:
            return False
        transaction.on_commit(call, using=wrapper.alias)
        return True

    def around_units(self) -> None:
        """Close connections that are too old or of no use, as Django does around each request.

        Not the one of a transactional step: Django would close it in the middle of its block.
        """
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                with suppress(DjangoError):
                    connection.close_if_unusable_or_obsolete()


def _wrapper_of(session: object) -> Any:
    """Return the connection that `session` stands for: an alias, a connection, or its proxy."""
    if isinstance(session, str):
        return connection_to(session)
    if isinstance(session, ConnectionProxy):
        alias: str = session.alias
        return connection_to(alias)
    return session if isinstance(session, BaseDatabaseWrapper) else None
