"""Executes runs in their callers: the hook for it."""

from __future__ import annotations

from typing import Any

from celery_durable.database.ends import Ends
from celery_durable.database.notify import Notifier


class InCaller(Notifier):
    """Executes runs in their caller, where others wake the relays: `celery_durable.testing.eager`.

    That package fills it in: an app with `task_always_eager` needs it, and no other.
    """

    @property
    def ends(self) -> Ends:
        """The ends of runs; who waits for one executes."""
        raise NotImplementedError

    def adopt(self, harness: Any) -> None:
        """Execute by this harness from now on."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the database."""
        raise NotImplementedError
