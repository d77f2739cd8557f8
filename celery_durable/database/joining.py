"""Finds the transaction that a call without `session=` joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Provider = Callable[[], object]
"""A function that returns what `session=` takes if the caller has a transaction open, or None."""


class Joining:
    """The session that the caller's code has bound, or the transaction that it has open."""

    def __init__(self) -> None:
        self.providers: list[Provider] = []
        """Asked in their order where nothing is bound; a framework adds its own."""
        self._bound: ContextVar[object] = ContextVar("durable_joining", default=None)

    @property
    def bound(self) -> object:
        """The session that is bound in this thread or task; None without one."""
        return self._bound.get()

    @contextmanager
    def bind(self, session: object) -> Iterator[None]:
        """Bind `session` for the block."""
        token = self._bound.set(session)
        try:
            yield
        finally:
            self._bound.reset(token)

    def session(self) -> object:
        """Return the session to join; None where there is no transaction to join."""
        if self.bound is not None:
            return self.bound
        found = (provider() for provider in self.providers)
        return next((session for session in found if session is not None), None)
