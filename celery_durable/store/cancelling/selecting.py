"""Conditions and lists of ids that the statements of a cancel share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from celery_durable.core.token import Flags
from celery_durable.store import sql
from celery_durable.store import tables as t

NONE: Any = sa.literal_column("0")

FLAGS = sql.integer("flags")
"""The flags that the cancel raises."""

IS_FLAGGED = t.token.c.flags.op("&")(FLAGS) == FLAGS
IS_FIRST = t.token.c.parent_id.is_(None)
GOES_FORWARD = t.token.c.rollback.is_(None)
WAITS_FOR_CHILD = t.token.c.wait == sql.word("child")

SKIP: Any = sa.literal_column(str(int(Flags.SKIP)))
COMPENSATE: Any = sa.literal_column(str(int(Flags.COMPENSATE)))

child = t.run.alias("child")
"""The run that a token waits for, or one below a run."""


_listed = sa.func.json_array_elements_text(sql.json("runs")).table_valued("value")

IS_OF_RUNS = t.token.c.run_id.in_(sa.select(sa.cast(_listed.c.value, sa.Uuid)))
"""The token is one of the runs in the parameter `runs`."""


def listing(ids: Iterable[UUID]) -> str:
    """Ids as JSON text: the form in which the statements take a list."""
    return json.dumps([str(one) for one in ids])
