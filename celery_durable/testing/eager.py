"""Executes runs in their caller, for apps with `task_always_eager`.

It stands where the relays are woken: after a commit of the caller's that has put something into the
outbox. So a run is executed before `start` returns, and never before it is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.orm import Session, scoped_session

from celery_durable.database.ends import Ends
from celery_durable.durable import Durable
from celery_durable.testing import messages
from celery_durable.testing.handles import InPlaceEnds, beside_the_loop
from celery_durable.testing.harness import Harness
from celery_durable.testing.lease import refuse_company
from celery_durable.testing.messages import SentTask
from celery_durable.worker.in_caller import InCaller

logger = logging.getLogger(__name__)


class Eager(InCaller):
    """Executes what is due where others would wake a relay.

    Raises `ConfigurationError` where a worker is alive on the database, before anything is started.
    """

    def __init__(self, durable: Durable) -> None:
        super().__init__(durable.database)
        self.durable = durable
        self._harness: Harness | None = None
        with durable.database.autocommit() as connection:
            refuse_company(connection)

    def adopt(self, harness: Harness) -> None:
        """Execute by this harness from now on: what it is doing must not be done beside it."""
        self._harness = harness

    def close(self) -> None:
        """Leave the database."""
        if self._harness is not None:
            self._harness.close()

    @property
    def harness(self) -> Harness:
        """The harness that executes: the test's, if it has made one."""
        if self._harness is None:
            self._harness = Harness(self.durable)
        return self._harness

    @property
    def ends(self) -> Ends:
        """The ends of runs; who waits for one executes."""
        return InPlaceEnds(self)

    def __call__(self) -> None:
        """Execute what is due, unless this is called by what is being executed."""
        if not self.harness.is_at_work:
            beside_the_loop(self.drain)

    def committed(self, announce: Callable[[], object]) -> None:
        """Announce what was committed, and execute it: a start is heard of before an end."""
        announce()
        self()

    def ended(self, run_ids: Sequence[UUID]) -> None:
        """Tell nobody."""

    def joined(self, session: object) -> None:
        """Execute after the commit of an SQLAlchemy session.

        So after that of a framework. Other transactions do not say when they end: there it is left
        to the next call.
        """
        framework = self.durable.framework
        if framework is not None and framework.after_commit(session, self):
            return
        if isinstance(session, scoped_session):
            session = session()
        if isinstance(session, Session):
            listener = session, "after_transaction_end", self._on_end
            if not event.contains(*listener):
                event.listen(*listener)

    def drain(self) -> int:
        """Execute what is due, and send the ordinary tasks of it: Celery executes them here."""
        followed = self.harness.drain_new()
        while sent := self._take_tasks():
            for task in sent:
                self._send(task)
            followed += self.harness.drain_new()
        return followed

    def _on_end(self, _session: Session, transaction: Any) -> None:
        if transaction.parent is None:
            self()

    def _take_tasks(self) -> Sequence[SentTask]:
        with self.durable.database.autocommit() as connection:
            return messages.take_tasks(connection)

    def _send(self, sent: SentTask) -> None:
        task = self.durable.app.tasks.get(sent.task)
        if task is None:
            logger.warning("Task %s is not defined in this process: it is not sent", sent.task)
            return
        task.apply_async(sent.args, sent.kwargs, **sent.options)
