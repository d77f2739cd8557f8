"""What the database says of runs in the end."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

UNDO = "#compensate"

RUNS = """
    SELECT id, coalesce(root_run_id, id) AS root, workflow, status, finished_at IS NOT NULL,
        error->>'type', error->>'unit'
    FROM durable_run
"""

JOURNAL = """
    SELECT j.seq, j.run_id, j.unit, j.outcome, j.attempt, j.result::text, j.error->>'type',
        j.undoable
    FROM durable_journal j ORDER BY j.seq
"""

LEFT = {
    "tokens": "SELECT count(*) FROM durable_token",
    "outbox rows": "SELECT count(*) FROM durable_outbox",
    "items": "SELECT count(*) FROM durable_item",
    "signals and commands": "SELECT count(*) FROM durable_inbox WHERE consumed_by IS NULL",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One entry of a journal."""

    unit: str
    outcome: str
    attempt: int
    result: str | None
    error: str | None
    is_undoable: bool = False


@dataclass(frozen=True, slots=True)
class RunAccount:
    """How one run ended, and what is recorded of it, in order."""

    id: UUID
    root: UUID
    workflow: str
    status: str
    has_ended: bool
    error: tuple[str | None, str | None]
    units: list[Unit] = field(default_factory=list)

    @property
    def completed(self) -> list[str]:
        return [unit.unit for unit in self.units if unit.outcome == "completed"]

    @property
    def undoable(self) -> set[str]:
        """The completed units that have a compensator."""
        return {unit.unit for unit in self.units if unit.is_undoable}

    @property
    def undone(self) -> list[str]:
        """The units that were undone, in the order in which they were."""
        return [
            unit.unit.removesuffix(UNDO)
            for unit in self.units
            if unit.unit.endswith(UNDO) and unit.outcome == "completed"
        ]

    @property
    def essence(self) -> tuple[Any, ...]:
        """What is alike in all runs of one input."""
        return self.workflow, self.status, self.error, frozenset(self.units)


@dataclass(frozen=True, slots=True)
class Accounts:
    """All runs of a database, also by the tree that they belong to."""

    runs: Mapping[UUID, RunAccount]
    trees: Mapping[UUID, Sequence[RunAccount]]
    effects: Mapping[tuple[UUID, str], int]
    left: Mapping[str, int]
    recorded: frozenset[int] = frozenset()
    """The numbers of the journal's rows: what is written once more has another."""

    def tree_essence(self, root: UUID) -> list[tuple[Any, ...]]:
        """The essence of a run and of its descendants, whatever their order."""
        return sorted((run.essence for run in self.trees[root]), key=repr)


def read(connection: psycopg.Connection[Any]) -> Accounts:
    runs = {
        row[0]: RunAccount(row[0], row[1], row[2], row[3], row[4], (row[5], row[6]))
        for row in connection.execute(RUNS)
    }
    recorded: set[int] = set()
    for seq, run_id, *unit in connection.execute(JOURNAL):
        recorded.add(seq)
        runs[run_id].units.append(Unit(*unit))
    trees: dict[UUID, list[RunAccount]] = defaultdict(list)
    for run in runs.values():
        trees[run.root].append(run)
    counted = connection.execute("SELECT run_id, unit, count(*) FROM effect GROUP BY 1, 2")
    effects = {(run_id, unit): number for run_id, unit, number in counted}
    left = {name: first(connection, query) for name, query in LEFT.items()}
    return Accounts(runs, trees, effects, left, frozenset(recorded))


def first(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
