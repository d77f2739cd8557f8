"""Runs that ended long ago, made at once, and forests of them: for tests of pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from tests.integration.driving import World

NOTHING = {"run": 0, "journal": 0, "inbox": 0, "token": 0, "item": 0, "leftover": 0}
"""The rows when all is gone."""


@dataclass(frozen=True)
class Ended:
    """How a run ended, `days` ago; None for one that has not ended."""

    days: float | None = 100
    status: str = "completed"
    parent: UUID | None = None
    forked_from: UUID | None = None
    units: int = 1
    workflow: str = "w"
    key: str | None = None


class Past:
    """Writes runs into a world as if they had ended long ago."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, **how: Any) -> UUID:
        """A run with rows in its journal and a late signal."""
        (run,) = self.runs(1, **how)
        return run

    def runs(self, n: int, **how: Any) -> Sequence[UUID]:
        """So many runs that are alike."""
        one = Ended(**how)
        runs = [uuid4() for _ in range(n)]
        self._world.rows(
            "INSERT INTO durable_run (id, workflow, version, status, input, error, parent_run_id,"
            " root_run_id, forked_from, key, finished_at) SELECT id, %s, 1, %s::text, '{}',"
            " CASE %s::text WHEN 'failed' THEN '{}'::json END,"
            " %s::uuid, (SELECT coalesce(root_run_id, id) FROM durable_run WHERE id = %s::uuid),"
            " %s::uuid, %s, clock_timestamp() - %s::double precision * interval '1 day'"
            " FROM unnest(%s::uuid[]) id",
            one.workflow,
            *(one.status if one.days is not None else "running", one.status),
            *(one.parent, one.parent, one.forked_from, one.key, one.days, runs),
        )
        self._world.rows(
            "INSERT INTO durable_journal"
            " (run_id, unit, node, outcome, undoable, attempt, result, started_at)"
            " SELECT id, 'u' || n, 'u' || n, 'completed', false, 1, '1', now()"
            " FROM unnest(%s::uuid[]) id, generate_series(1, %s) n",
            *(runs, one.units),
        )
        self._world.rows(
            "INSERT INTO durable_inbox (run_id, kind, name, payload)"
            " SELECT id, 'signal', 'late', '1' FROM unnest(%s::uuid[]) id",
            runs,
        )
        return runs

    def chain(self, depth: int, **how: Any) -> Sequence[UUID]:
        """A run with so many levels of runs below it, from the top down."""
        runs = [self.run(**how)]
        for _ in range(depth):
            runs.append(self.run(parent=runs[-1], **how))
        return runs

    def age(self, run: UUID, days: float = 100) -> None:
        """A run that has ended did so `days` ago."""
        query = (
            "UPDATE durable_run SET finished_at = clock_timestamp() - %s * interval '1 day'"
            " WHERE id = %s AND finished_at IS NOT NULL"
        )
        self._world.rows(query, days, run)

    def left(self) -> set[UUID]:
        """The runs that are there."""
        return {row["id"] for row in self._world.rows("SELECT id FROM durable_run")}

    def rows(self) -> dict[str, int]:
        """How many rows there are of runs, and of what belongs to them."""
        return {
            table: self._world.one(f"SELECT count(*) FROM durable_{table}") for table in NOTHING
        }

    def halves(self) -> int:
        """Runs that are there, and a part of whose journal or of the runs below them is not."""
        query = (
            "SELECT count(*) FROM durable_run r WHERE"
            " (SELECT count(*) FROM durable_journal WHERE run_id = r.id)"
            " <> (tags ->> 'units')::int"
            " OR (SELECT count(*) FROM durable_run WHERE parent_run_id = r.id)"
            " <> (tags ->> 'children')::int"
        )
        return int(self._world.one(query))

    def note_wholes(self) -> None:
        """Note of each run how much it has, for `halves`."""
        self._world.rows(
            "UPDATE durable_run r SET tags = json_build_object("
            "'units', (SELECT count(*) FROM durable_journal WHERE run_id = r.id),"
            "'children', (SELECT count(*) FROM durable_run WHERE parent_run_id = r.id))"
            " WHERE tags = '{}'"
        )
