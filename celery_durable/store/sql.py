"""Parameters and expressions that many statements share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL

from celery_durable.store import tables as t
from celery_durable.store.connection import parameter

clock: sa.ColumnElement[Any] = sa.func.clock_timestamp()
"""The database's time now; `now()` is the time at which the transaction began."""


def word(text: str) -> sa.ColumnElement[Any]:
    """A constant of the library, as a literal in the statement."""
    return sa.literal_column(f"'{text}'")


def uuid(name: str) -> sa.BindParameter[Any]:
    """A parameter that is a UUID."""
    return parameter(name, type_=sa.Uuid())


def text(name: str) -> sa.BindParameter[Any]:
    """A parameter that is text."""
    return parameter(name, type_=sa.Text())


def integer(name: str) -> sa.BindParameter[Any]:
    """A parameter that is a whole number."""
    return parameter(name, type_=sa.Integer())


def big(name: str) -> sa.BindParameter[Any]:
    """A parameter that is a whole number of 64 bits."""
    return parameter(name, type_=sa.BigInteger())


def ids(name: str) -> sa.ColumnElement[Any]:
    """A parameter that is an array of whole numbers, as text: `{1,2}`.

    The text has no type of its own: Postgres folds the cast of an unknown literal into the plan,
    and would parse one of a varchar anew for each row.
    """
    return sa.cast(parameter(name, type_=sa.types.NullType()), ARRAY(sa.BigInteger))


def uuids(name: str) -> sa.ColumnElement[Any]:
    """A parameter that is an array of UUIDs, the text that `array` makes; see `ids`."""
    return sa.cast(parameter(name, type_=sa.types.NullType()), ARRAY(sa.Uuid))


def array(ids: Iterable[UUID]) -> str:
    """Ids as the text of an array: drivers differ in how they take a list."""
    return "{" + ",".join(map(str, ids)) + "}"


def number(name: str) -> sa.BindParameter[Any]:
    """A parameter that is a floating-point number."""
    return parameter(name, type_=sa.Double())


def boolean(name: str) -> sa.BindParameter[Any]:
    """A parameter that is true or false."""
    return parameter(name, type_=sa.Boolean())


def time(name: str) -> sa.BindParameter[Any]:
    """A parameter that is an aware datetime."""
    return parameter(name, type_=sa.DateTime(timezone=True))


def interval(name: str) -> sa.BindParameter[Any]:
    """A parameter that is a timedelta."""
    return parameter(name, type_=INTERVAL())


def later(name: str) -> sa.ColumnElement[Any]:
    """The time that is the interval `name` from now; NULL if the parameter is null."""
    return clock + interval(name)


def ahead(time: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The time if it is in the future; else NULL."""
    return sa.case((time > clock, time))


def json(name: str) -> sa.ColumnElement[Any]:
    """A parameter that is JSON text: no driver encodes it."""
    return sa.cast(text(name), sa.JSON())


def json_text(column: sa.ColumnElement[Any], name: str | None = None) -> sa.Label[Any]:
    """A JSON column as text: no driver decodes it."""
    return sa.cast(column, sa.Text()).label(name or getattr(column, "name", ""))


def seconds(interval: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """An interval as a number of seconds."""
    return sa.extract("epoch", interval)


def there_is(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """EXISTS that Postgres looks up for each row.

    Postgres may hash the whole table for a plain EXISTS, but not for one with an OFFSET
    (`simplify_EXISTS_query` in src/backend/optimizer/plan/subselect.c).
    """
    nothing_skipped: sa.ColumnElement[Any] = sa.literal_column("0")
    return sa.exists(sa.select(sa.literal_column("1")).where(*conditions).offset(nothing_skipped))


def any_of(column: Any, found: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """`column IN (found)` by an index, however many rows Postgres expects."""
    return cast("sa.ColumnElement[bool]", column == sa.any_(sa.func.array(found.scalar_subquery())))


def has_commands(run_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """True if a command for the run waits to be applied."""
    return sa.exists().where(
        t.inbox.c.run_id == run_id,
        t.inbox.c.kind == sa.literal_column("'command'"),
        t.inbox.c.consumed_by.is_(None),
    )


def is_found(rows: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """True if the first row of an ordered query is there; its column is never null.

    Postgres ignores the order in an EXISTS, and may read a table until it finds a row.
    """
    return rows.limit(sa.literal_column("1")).scalar_subquery().is_not(None)


def json_rows(rows: Any, name: str) -> sa.Label[Any]:
    """The rows of a subquery as JSON text, a list of lists; NULL if there is none."""
    found = rows.subquery(name)
    listed = sa.select(sa.func.json_agg(sa.func.json_build_array(*found.c))).scalar_subquery()
    return json_text(listed, name)
