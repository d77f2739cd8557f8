"""The origin of a hint: the schema and the database it comes from.

Relays write it into their messages. A worker that finds no token for a hint tells by the origin
whether the token has ended, which is normal, or belongs to another database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one


def _words(schema_id: Any) -> sa.ColumnElement[str]:
    """The number and the names: a copy of a database has the same number, and another name."""
    slash: sa.ColumnElement[str] = sa.literal_column("'/'")
    name = sa.func.current_database()
    return sa.func.concat(schema_id, slash, name, slash, sql.text("schema"))


OURS: Any = sa.select(_words(t.recovery.c.schema_id)).scalar_subquery()
"""The origin of this schema's hints; needs the parameter `schema`. Null until `find` makes it."""

_made = (
    upsert(t.recovery)
    .values(id=sa.literal_column("1"), next_at=sql.clock)
    .on_conflict_do_nothing()
    .returning(t.recovery.c.schema_id)
    .cte("made")
)

_FIND = Statement(
    sa.select(
        sa.func.coalesce(sa.select(_words(_made.c.schema_id)).scalar_subquery(), OURS).label("ours")
    ).add_cte(_made)
)


def find(connection: Connection) -> str | None:
    """The origin of this schema's hints; None while another transaction makes it."""
    row = one(connection, _FIND, {"schema": connection.schema})
    return row["ours"] if row else None


_SERVER = Statement(
    sa.select(
        sa.func.current_database().label("database"),
        sql.seconds(sa.func.pg_postmaster_start_time()).label("server_started_at"),
    )
)


@dataclass(frozen=True, slots=True)
class Place:
    """The database that a connection leads to, and when its server was started."""

    database: str
    server_started_at: float


def place_of(connection: Connection) -> Place:
    """Return where a connection leads; that needs no right on any table."""
    row = one(connection, _SERVER, {})
    assert row is not None
    return Place(row["database"], float(row["server_started_at"]))


def described(origin: str) -> str:
    """The origin in words."""
    _, database, schema = (*origin.split("/", 2), "?", "?")[:3]
    return f"schema {schema!r} of database {database!r}"
