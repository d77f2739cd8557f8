"""A client that sends ordinary tasks by the outbox, and the queue that a relay fills."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from celery import Task
from celery.canvas import Signature
from sqlalchemy.orm import Session

from celery_durable import Durable, OutboxTask
from tests.integration.driving import World
from tests.integration.relaying import Message, Relays, drain, taken_from, worker_on
from tests.transports import Broker


def with_tasks(durable: Durable) -> Task:
    """The task `tell`, an `OutboxTask`, and `plain`, an ordinary one."""

    @durable.app.task(name="plain", shared=False)
    def plain(*_: Any) -> None:
        """What is sent without joining anything."""

    @durable.app.task(name="tell", shared=False, base=OutboxTask, ignore_result=False)
    def tell(*_: Any, **__: Any) -> None:
        """What is sent with a transaction."""

    return tell


class Sender:
    """A client with these two tasks, a session of the user's, a relay, and a queue on `broker`."""

    def __init__(self, world: World, relays: Relays, broker: Broker, **settings: Any) -> None:
        self.world = world
        self.broker = broker
        self.durable = worker_on(broker, world, with_tasks, **settings)
        self.app = self.durable.app
        self.tell: Task = self.app.tasks["tell"]
        self._engine = sa.create_engine(world.url)
        self.session = Session(self._engine)
        self._relays = relays

    def close(self) -> None:
        self.session.close()
        self._engine.dispose()

    def plain(self, *args: Any) -> Signature:
        """A signature of the ordinary task."""
        return self.app.tasks["plain"].s(*args)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """A block whose calls join the session, which is committed at its end."""
        with self.durable.joining(self.session):
            yield
            self.session.commit()

    def written(self) -> list[list[Any]]:
        """The arguments of the tasks in the outbox, in order."""
        return [row["args"] for row in self.world.sent()]

    def in_queue(self, role: str = "durable") -> list[Message]:
        """The messages of a queue, in order; they are taken out."""
        return taken_from(self.broker, self.broker.queue(role))

    def published(self) -> list[Message]:
        """Publish what is due; the messages that are in the queue then."""
        drain(self._relays.of(self.durable))
        return self.in_queue()
