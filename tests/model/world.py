"""One state of the world: the tables, what the actors have in hand, and what may still go wrong.

Two states are the same when the same can happen in them; `World.key` says so. Ids are replaced by
names, numbers of sequences by their order, fences by whether they still hold, times by how far off
they are, and the two workers, which are alike, are put in order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.model.hands import Call, Script
from tests.model.stage import Record, Tables


@dataclass(frozen=True)
class Limits:
    """How often each thing may go wrong in one schedule."""

    crashes: int = 0
    zombies: int = 0
    """Workers that are taken for dead while they live."""
    duplicates: int = 0
    losses: int = 0
    """Messages that the broker loses."""
    answers: int = 0
    """COMMITs whose answer is lost."""
    recoveries: int = 0


@dataclass(frozen=True)
class Seat:
    """A worker process. `executing`: the units whose functions have been called, until a commit."""

    name: str
    worker: UUID | None = None
    script: Script | None = None
    executing: tuple[Call, ...] = ()


@dataclass(frozen=True)
class World:
    """A state. `acts`: what each client's act has come to; None before it begins."""

    tables: Tables
    seats: tuple[Seat, ...]
    acts: tuple[Script | str | None, ...]
    left: Limits
    names: Mapping[str, str]
    stored: tuple[str, ...] = ()
    """Runs into whose inbox a signal was stored, once for each."""
    asked: frozenset[str] = frozenset()
    is_damaged: bool = False
    """Something was lost, so that it may take a recovery to go on."""

    def with_tables(self, tables: Tables) -> World:
        """The same after a transaction; what is new in the tables gets its name."""
        names = dict(self.names)
        for token in sorted(tables.token, key=lambda row: row["parent_id"] is not None):
            run = names.get(token["run_id"])
            if run is not None and token["id"] not in names:
                unit = f"/{token['unit']}" if token["parent_id"] else ""
                names[token["id"]] = f"{run}{unit}"
            if token["child_run_id"]:
                unit = token["unit"].removesuffix("#compensate")
                names.setdefault(token["child_run_id"], f"{run}>{unit}")
        if any(token["id"] not in names for token in tables.token):
            return replace(self, names=names).with_tables(tables)
        return replace(self, tables=tables, names=names)

    def name(self, id: str | UUID | None) -> str | None:
        """What an id is called; None for one that is not of a run or token."""
        return None if id is None else self.names.get(str(id))

    def unfinished(self) -> list[Record]:
        return [run for run in self.tables.run if run["finished_at"] is None]

    def is_live(self, worker: str | UUID | None) -> bool:
        """Whether a worker is registered and has not been declared dead."""
        return any(
            row["id"] == str(worker) and row["ended_at"] is None for row in self.tables.worker
        )

    def key(self) -> int:
        """Equal for states in which the same can happen."""
        scripts = [
            (
                seat.worker is not None and self.is_live(seat.worker),
                self._hand_key(seat.script),
                tuple((self.name(call.run_id), call.unit) for call in seat.executing),
                seat.name,
            )
            for seat in self.seats
        ]
        scripts.sort(key=repr)
        order = {name: place for place, (*_, name) in enumerate(scripts)}
        seats = {str(seat.worker): order[seat.name] for seat in self.seats if seat.worker}
        acts = tuple(self._hand_key(a) if isinstance(a, Script) else a for a in self.acts)
        rest = (tuple(entry[:-1] for entry in scripts), acts, self.left, self.is_damaged)
        return hash((rest, *self._tables_key(seats)))

    def _hand_key(self, script: Script | None) -> object:
        if script is None:
            return None
        seen = self._places()
        replies = tuple(
            (type(reply.error), tuple(self._row_key(row, seen) for row in reply.rows))
            for reply in script.replies
        )
        return (script.does, replies)

    def _places(self) -> dict[str, int]:
        """What is told apart by its place: going back in a schedule turns no sequence back."""
        journal = {
            f"seq {row['seq']}": n for n, row in enumerate(sorted(self.tables.journal, key=_seq))
        }
        inbox = {f"id {row['id']}": n for n, row in enumerate(sorted(self.tables.inbox, key=_id))}
        return journal | inbox

    def _row_key(self, row: Mapping[str, Any], seen: dict[str, int]) -> object:
        return tuple((k, self._value_key(k, v, seen)) for k, v in row.items() if k not in _PASSING)

    @staticmethod
    def _place(of: str, seen: dict[str, int]) -> int:
        return seen.setdefault(of, len(seen))

    def _value_key(self, column: str, value: object, seen: dict[str, int]) -> object:
        match value:
            case int() if column in _NUMBERED:
                key: object = self._place(f"{column} {value}", seen)
            case str() if column == "failures":
                key = len(json.loads(value))
            case UUID():
                key = self.names.get(str(value)) or self._place(str(value), seen)
            case datetime():
                key = None
            case Decimal() | float():
                key = max(0, round(value))
            case dict() | list():
                key = json.dumps(value, sort_keys=True)
            case str():
                key = self.names.get(value, value)
            case _:
                key = value
        return key

    def _tables_key(self, seats: Mapping[str, int]) -> tuple[object, ...]:
        t = self.tables
        return (
            tuple(sorted((self._run_key(row) for row in t.run), key=repr)),
            tuple(sorted((self._token_key(row, seats) for row in t.token), key=repr)),
            tuple(sorted((self.name(row["token_id"]) or "", row["position"]) for row in t.item)),
            tuple(
                (self.name(row["run_id"]), row["unit"], row["outcome"])
                for row in sorted(t.journal, key=_seq)
            ),
            self._hints_key(),
            tuple(
                (
                    self.name(row["run_id"]),
                    row["name"],
                    row["key"],
                    json.dumps(row["payload"]),
                    self.name(row["consumed_by"]),
                )
                for row in sorted(t.inbox, key=_id)
            ),
            tuple(sorted(self._worker_key(row, seats) for row in t.worker)),
            tuple(sorted(self.name(row["run_id"]) or "" for row in t.pause)),
        )

    def _run_key(self, row: Record) -> object:
        asked = (row["cancel_reason"], row["cancel_requested_at"] is not None)
        until = tuple(self.tables.seconds_until(row[at]) for at in ("times_out_at", "expires_at"))
        return (self.name(row["id"]), row["status"], asked, until, _type_of(row["error"]))

    def _token_key(self, row: Record, seats: Mapping[str, int]) -> object:
        plain = tuple(json.dumps(row[column]) for column in _PLAIN)
        claimed = row["claimed_by"]
        holder = None if claimed is None else (seats.get(claimed, "nobody"), self.is_live(claimed))
        return (
            self.name(row["id"]),
            plain,
            len(row["failures"] or ()),
            self.name(row["child_run_id"]),
            self.tables.seconds_until(row["wake_at"]),
            self.tables.seconds_until(row["deadline_at"]),
            holder,
        )

    def hint_key(self, row: Record) -> object:
        """Equal for messages that are alike. Only recovery looks at their fences.

        A message whose time has come is as good as one that need not wait.
        """
        t = self.tables
        tokens = tuple(self.name(token) for token in row["args"])
        is_current = not self.left.recoveries or any(
            token["id"] == row["token_id"] and token["fence"] == row["fence"] for token in t.token
        )
        return (tokens, is_current, t.seconds_until(row["available_at"]) or 0)

    def _hints_key(self) -> object:
        """More than two that are alike are as good as two."""
        counted = Counter(self.hint_key(row) for row in self.tables.outbox)
        return frozenset((key, min(n, 2)) for key, n in counted.items())

    def _worker_key(self, row: Record, seats: Mapping[str, int]) -> tuple[int, bool, bool]:
        place = seats.get(row["id"], -1)
        return (place, row["ended_at"] is not None, self.tables.is_due(row["expires_at"]))


_NUMBERED = frozenset({"id", "seq"})
"""The columns with numbers of a sequence: of the inbox, and of the journal."""

_PASSING = frozenset({"hinted_at", "waited", "now", "created_at"})
_PLAIN = (
    "node", "unit", "attempt", "crashes", "flags", "rollback", "part", "position", "wait", "awaits",
    "remaining", "failed", "total", "opened", "input", "snapshot", "answer", "begun",
)  # fmt: skip


def _type_of(error: Any) -> str | None:
    return None if error is None else str(error["type"])


def _seq(row: Record) -> int:
    return int(row["seq"])


def _id(row: Record) -> int:
    return int(row["id"])
