"""`Connected` is what starting, reading and steering runs share: settings and connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakSet

from celery_durable.arguments import LONGEST_ACTOR, LONGEST_REASON, checked_text
from celery_durable.core.action import Actor
from celery_durable.core.message import TaskMessage
from celery_durable.database.connections import Database
from celery_durable.database.framework import Framework
from celery_durable.database.joining import Joining
from celery_durable.database.notify import Notifier
from celery_durable.engine.children import RunFactory
from celery_durable.errors import ConfigurationError, DatabaseUnavailable
from celery_durable.process.once import once
from celery_durable.process.threads import Threads
from celery_durable.settings import Settings
from celery_durable.store import actions, codec, origin, outbox
from celery_durable.store.connection import (
    Connection,
    PsycopgConnection,
    SqlAlchemyConnection,
    connection_of,
)
from celery_durable.workflow.registry import Registry

C = TypeVar("C", bound="Connected")
P = ParamSpec("P")
T = TypeVar("T")


def twin(
    method: Callable[Concatenate[C, P], T],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, T]]:
    """Make the `async` twin of a method: `astart` of `start`.

    It joins the transaction of `session`, an AsyncSession or AsyncConnection; without one it runs
    in a thread. A subclass that overrides the method has overridden its twin.
    """
    name, form = method.__name__, signature(method)
    joins = "session" in form.parameters

    async def awaited(client: C, /, *args: P.args, **options: P.kwargs) -> T:
        call: Callable[..., T] = getattr(client, name)
        session: Any = options.pop("session", None) if joins else None
        if session is None and joins:
            session = client.open.bound
        if session is None:
            return await client.threads.call(lambda: call(*args, **options))
        if not hasattr(session, "run_sync"):
            raise ConfigurationError(
                f"session= of an async method takes an AsyncSession or AsyncConnection,"
                f" not {type(session).__name__}."
            )
        joined: T = await session.run_sync(lambda sync: call(*args, **options, session=sync))
        return joined

    owner = method.__qualname__.removesuffix(name)
    awaited.__name__, awaited.__qualname__ = f"a{name}", f"{owner}a{name}"
    awaited.__module__, awaited.__signature__ = method.__module__, form  # type: ignore[attr-defined]
    awaited.__doc__ = f"`{name}` for `async` code."
    if joins:
        awaited.__doc__ += " `session` is an AsyncSession or AsyncConnection."
    return awaited


class Connected:
    """The settings and the connections of one process. Nothing here needs Celery.

    Settings are read and connections are made when they are first needed.
    """

    def __init__(self, registry: Registry, read_settings: Callable[[], Settings]) -> None:
        self.registry = registry
        self.threads = Threads()
        self.open = Joining()
        self._actor: ContextVar[Actor | None] = ContextVar("durable_actor", default=None)
        self._read_settings = read_settings
        self._framework: Framework | None = None
        self._joined_before: WeakSet[object] = WeakSet()

    @property
    def framework(self) -> Framework | None:
        """The framework whose database this is; None without one.

        It is asked for until it is found: frameworks are set up after their apps are imported.
        """
        if self._framework is None and (found := self._find_framework()) is not None:
            self._framework = found
            self.open.providers.append(found.open_transaction)
        return self._framework

    def _find_framework(self) -> Framework | None:
        """Return the framework that the Celery app belongs to; here, without an app, none."""
        return None

    @once
    def settings(self) -> Settings:
        """The app's `durable_*` settings, read once when they are first needed."""
        chosen = self._read_settings()
        codec.allow(chosen.allowed_types)
        return chosen

    @once
    def database(self) -> Database:
        """This process's connections to Postgres."""
        chosen = self.settings
        if self.framework is not None:
            return self.framework.database(chosen)
        return Database(
            chosen.database_url, direct_address=chosen.direct_database_url, schema=chosen.schema
        )

    @once
    def notify(self) -> Notifier:
        """The notifier, which wakes the relays, and tells of runs that have ended."""
        return Notifier(self.database)

    @once
    def run_factory(self) -> RunFactory:
        """The factory that makes runs ready to start."""
        return RunFactory(self.database, self.registry, self.settings)

    @contextmanager
    def joining(self, session: object) -> Iterator[None]:
        """Have calls in the block that take a `session` join the transaction of this one.

        So does `delay` of an `OutboxTask`. `session` is what `start` takes as `session=`; for the
        `a`-prefixed twins an AsyncSession or AsyncConnection. A call that names another `session`
        joins that. It holds for the thread, or the asyncio task and those that it starts, in which
        the block is. Committing and rolling back stay the caller's. Raises `ConfigurationError` for
        None.
        """
        if session is None:
            raise ConfigurationError(
                "joining() takes the session whose transaction is joined, not None. Outside of such"
                " a block a call has a transaction of its own."
            )
        with self.open.bind(session):
            yield

    @contextmanager
    def acting(self, actor: str, reason: str | None = None) -> Iterator[None]:
        """Note `actor` and `reason` with what is done to runs in the block; `actions` returns it.

        A call with a reason of its own keeps that. It holds for the thread, or the asyncio task and
        those that it starts, in which the block is; an inner block goes before an outer one.
        Without such a block what operators do (`cancel`, `retry`, `retry_now`, `skip`, `pause`,
        `unpause`, `retry_compensation`) is noted without a name, and `resume` and `prune`, which
        programs do, are not noted. Raises `ConfigurationError`.
        """
        checked_text("actor", actor, LONGEST_ACTOR)
        if reason is not None:
            checked_text("reason", reason, LONGEST_REASON)
        token = self._actor.set(Actor(actor, reason))
        try:
            yield
        finally:
            self._actor.reset(token)

    @property
    def is_acting(self) -> bool:
        """True inside of `acting`."""
        return self._actor.get() is not None

    def note(
        self,
        connection: Connection,
        name: str,
        run_id: UUID | None,
        *,
        reason: str | None = None,
        workflow: str | None = None,
        version: int | None = None,
        what: str | None = None,
    ) -> None:
        """Note what is done to a run; without one to a workflow, a step, or to many runs."""
        actions.note(
            connection,
            name,
            self._actor_with(reason),
            run_id,
            workflow=workflow,
            version=version,
            what=what,
        )

    def note_of_runs(
        self,
        connection: Connection,
        name: str,
        runs: Collection[UUID],
        *,
        reason: str | None = None,
        what: str | None = None,
    ) -> None:
        """Note what is done to each of these runs."""
        actions.note_of_runs(connection, name, self._actor_with(reason), runs, what=what)

    def _actor_with(self, reason: str | None) -> Actor:
        actor = self._actor.get() or Actor()
        return actor if reason is None else replace(actor, reason=reason)

    def put_tasks(self, messages: Sequence[TaskMessage], session: object) -> None:
        """Put ordinary tasks into the outbox, in the transaction of `session` or in our own."""
        if not messages:
            return
        with self._writing(session, together=False) as connection:
            outbox.put_tasks(connection, messages)

    def _joined(self, session: object) -> object:
        """Return `session`; without one, that of the transaction that is open here."""
        if session is not None:
            return session
        _ = self.framework  # once it is found, it is asked whether a transaction is open
        return self.open.session()

    def _connection_of(self, session: object) -> Connection:
        """Return a connection in the transaction of `session`, which may be a framework's."""
        schema = self.settings.schema
        found = self.framework.connection(session, schema) if self.framework else None
        if found is None:
            found = connection_of(session, schema)
            self._refuse_elsewhere(found)
        return found

    def _refuse_elsewhere(self, joined: SqlAlchemyConnection | PsycopgConnection) -> None:
        """Raise `ConfigurationError` for a transaction of another database than ours.

        It may have our tables, too, of another app. Each engine, and each connection without one,
        is looked at once. While ours does not answer nobody can tell.
        """
        at = joined.raw if isinstance(joined, PsycopgConnection) else joined.connection.engine
        if at in self._joined_before:
            return
        theirs = origin.place_of(joined)
        with suppress(DatabaseUnavailable):
            with self.database.autocommit() as connection:
                ours = origin.place_of(connection)
            if theirs != ours:
                raise ConfigurationError(
                    f"session= is connected to the database {theirs.database!r}, and durable runs"
                    f" are in {ours.database!r}"
                    + (" of another server" if theirs.database == ours.database else "")
                    + ". Pass a session of that database, or none: the call has a transaction of"
                    " its own then."
                )
            self._joined_before.add(at)

    @contextmanager
    def _reading(self, *, together: bool = True) -> Iterator[Connection]:
        """Yield a connection on which all statements see one snapshot, if `together`.

        Where a transaction of the framework's is open in this thread it is that one: what has been
        started in it is found.
        """
        session = self.framework.open_transaction() if self.framework else None
        if session is not None:
            yield self._connection_of(session)
            return
        with self.database.read_only() if together else self.database.autocommit() as connection:
            yield connection

    @contextmanager
    def _writing(
        self,
        session: object,
        *,
        together: bool = True,
        announce: Callable[[], object] = lambda: None,
    ) -> Iterator[Connection]:
        """Yield a connection in the caller's transaction, or in our own, committed at the end.

        `announce` is called after the commit, if that is ours.
        Without `together` one statement is its own transaction: three round trips less. Behind a
        transaction pooler nothing bounds how long it waits for a lock.
        """
        notify = self.notify  # what it refuses, it refuses before anything is written
        if session is not None:
            yield self._connection_of(session)
            notify.joined(session)
            return
        with self.database.transaction() if together else self.database.autocommit() as connection:
            yield connection
        notify.committed(announce)
