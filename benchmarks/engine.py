"""The engine in this process, without a broker and without workers, for the parts that measure
one thing.
"""

from __future__ import annotations

from uuid import UUID

import psycopg
import sqlalchemy as sa
from celery import Celery

from celery_durable import Durable, Workflow


def durable_on(url: str) -> Durable:
    """The engine on this database, without a broker: what is measured are steps, not messages."""
    app = Celery("benchmarks", broker="memory://", set_as_current=False)
    app.conf.durable_database_url = url
    app.conf.durable_inline_steps = 1_000_000
    app.conf.durable_inline_seconds = 3600
    durable = Durable(app)
    durable.migrate()
    return durable


def workflow_of(durable: Durable, name: str, steps: int, result: object = None) -> Workflow:
    """A workflow of steps that do nothing and return the result, a small one if none is named."""
    returned = {"ok": True} if result is None else result
    workflow = durable.workflow(name)
    for number in range(steps):
        workflow.step(lambda ctx: returned, name=f"step_{number}")  # noqa: ARG005
    return workflow


def waiting_tokens(connection: psycopg.Connection) -> list[UUID]:
    """The tokens of unfinished runs."""
    return [row[0] for row in connection.execute("SELECT id FROM durable_token").fetchall()]


def plain(url: str) -> psycopg.Connection:
    """A psycopg connection that commits every statement."""
    dsn = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(dsn, autocommit=True)
