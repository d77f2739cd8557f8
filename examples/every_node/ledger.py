"""What the handlers did: a line for each time one has done its work.

It stands for the world outside. A handler writes on a connection of its own, at once; a
transactional one through `ctx.session`, together with its step or not at all.
"""

from __future__ import annotations

import os
from functools import cache

import sqlalchemy as sa

from celery_durable import Context, Durable

tables = sa.MetaData()

ledger = sa.Table(
    "every_node_ledger",
    tables,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("run_id", sa.Uuid, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
)


@cache
def _engine(url: str, _pid: int) -> sa.Engine:
    # A forked child makes its own connections: its pid is another.
    return sa.create_engine(url, isolation_level="AUTOCOMMIT")


def _line(ctx: Context) -> sa.Insert:
    return sa.insert(ledger).values(run_id=ctx.run_id, unit=ctx.unit, pid=os.getpid())


def write(durable: Durable, ctx: Context) -> None:
    with _engine(durable.settings.database_url, os.getpid()).connect() as connection:
        connection.execute(_line(ctx))


def write_with_the_step(ctx: Context) -> None:
    ctx.session.execute(_line(ctx))
