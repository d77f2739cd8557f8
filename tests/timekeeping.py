"""A clock that a test moves, and a reaper that need not watch for as long as a time limit lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from celery_durable.background.recovery import Reaper
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement
from celery_durable.store.reaping import Claimed

_PAST_DEADLINE = Statement(
    sa.select(
        t.token.c.fence,
        sa.extract("epoch", sa.func.clock_timestamp() - t.token.c.deadline_at).label("seconds"),
        t.token.c.time_limit,
    ).where(t.token.c.deadline_at.is_not(None))
)


class Clock:
    """A clock that stands still until it is moved; in the place of the module `time`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


class Timekeeper(Reaper):
    """Has watched every claim from its beginning, and believes the database's clock."""

    def reap(self, connection: Connection) -> int:
        self._past = {
            row["fence"]: (row["time_limit"] or 0.0) + float(row["seconds"])
            for row in connection.rows(_PAST_DEADLINE)
        }
        return super().reap(connection)

    def _overdue(self, limited: Mapping[Claimed, float]) -> Sequence[Claimed]:
        return [one for one, limit in limited.items() if self._past.get(one.fence, 0.0) > limit]
