"""One state of the model: tables, row locks, messages, workers, and statements that have begun."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

T = TypeVar("T")

OK, FAILED, LOST = "ok", "failed", "lost"


class Row(NamedTuple):
    """A token's row. `owner` is the worker that has claimed it, or 0."""

    unit: int = 0
    fence: int = 0
    owner: int = 0
    flag: bool = False
    crashes: int = 0
    begun: bool = False
    single: bool = False
    remaining: int = 0


class Entry(NamedTuple):
    """A journal row."""

    token: int
    unit: int
    outcome: str


class Held(NamedTuple):
    """A token in the hands of a worker.

    `phase`: waits (has not begun), runs, ready (its decision waits in memory), written (in a
    statement of the executor), guarded (in one of the guard), returned (the guard gives it back),
    alone (is committed alone), unsure (a commit found no row), asks (a command waits), asked (it
    has been applied), releases, abandons. `outcome` is empty where nothing was executed.

    `is_old`: the last look at it is old; `seems_young`: the worker does not know. `saw`: that look
    was made after the run had been cancelled; `saw_draining`: after the worker had begun to drain;
    `saw_end`: after it had been declared dead.
    """

    token: int
    unit: int
    fence: int
    owner: int
    phase: str
    outcome: str = ""
    flag: bool = False
    is_old: bool = False
    seems_young: bool = False
    saw: bool = False
    saw_draining: bool = False
    saw_end: bool = False


Lock = tuple[int, bool]
"""A row to lock; True to skip it if it is locked. Rows of runs come after those of tokens."""


class Op(NamedTuple):
    """A statement that has begun: the rows that it has still to lock, and those that it has.

    `stage`: 1 once the rows that depend on others are in `todo` too. `commands`, `cancelled`,
    `ended` and `draining` are what its snapshot saw, `is_old` that much time has passed since.
    """

    actor: str
    kind: str
    helds: tuple[Held, ...]
    todo: tuple[Lock, ...]
    got: tuple[int, ...] = ()
    stage: int = 0
    commands: frozenset[int] = frozenset()
    cancelled: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()
    draining: bool = False
    is_old: bool = False
    answers: tuple[Held, ...] = ()


class Worker(NamedTuple):
    """A worker process. `skipped` are tokens to be tried alone; `message` is not acknowledged."""

    id: int
    is_alive: bool = True
    hand: tuple[Held, ...] = ()
    message: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    is_draining: bool = False
    is_exiting: bool = False


class Mishaps(NamedTuple):
    """How many of each may still happen. `shots` are kills of a worker at any place."""

    shots: int = 0
    declared: int = 0
    lost: int = 0
    exits: int = 0
    answers: int = 0
    cancels: int = 0
    drains: int = 0
    rehints: int = 0


class State(NamedTuple):
    """One state. `cancelled`, `done` and `exited` are for laws only: runs whose cancel has
    committed, units that completed and are not recorded, workers that ended by themselves.
    """

    rows: tuple[Row | None, ...]
    locks: tuple[str, ...]
    journal: frozenset[Entry]
    outbox: frozenset[int]
    broker: tuple[tuple[int, ...], ...]
    commands: frozenset[int]
    workers: tuple[Worker, ...]
    ended: frozenset[int]
    ops: tuple[Op, ...]
    left: Mishaps
    cancelled: frozenset[int] = frozenset()
    done: frozenset[tuple[int, int]] = frozenset()
    exited: frozenset[int] = frozenset()
    reaped: frozenset[int] = frozenset()

    def row(self, token: int) -> Row:
        """The row of a token that has not ended."""
        row = self.rows[token]
        assert row is not None
        return row

    def with_row(self, token: int, row: Row | None) -> State:
        """The state with another row of the token."""
        return self._replace(rows=put(self.rows, token, row))

    def with_worker(self, number: int, worker: Worker) -> State:
        """The state with another worker at this number."""
        return self._replace(workers=put(self.workers, number, worker))

    def op_of(self, actor: str) -> Op | None:
        """The statement of an actor."""
        return next((op for op in self.ops if op.actor == actor), None)

    def with_op(self, op: Op) -> State:
        """The state with another statement of the actor."""
        others = [one for one in self.ops if one.actor != op.actor]
        return self._replace(ops=tuple(sorted([*others, op], key=lambda one: one.actor)))

    def without_op(self, actor: str) -> State:
        """The state in which the actor's statement has ended, and its locks are free."""
        locks = self.locks
        if actor in locks:
            locks = tuple("" if holder == actor else holder for holder in locks)
        return self._replace(ops=tuple(op for op in self.ops if op.actor != actor), locks=locks)

    def holder_before(self, op: Op) -> str:
        """The actor that holds the row which the statement waits for, or nothing."""
        if not op.todo or op.todo[0][1]:
            return ""
        holder = self.locks[op.todo[0][0]]
        return "" if holder == op.actor else holder

    def is_recorded(self, token: int, unit: int) -> bool:
        """True if the journal has the unit."""
        return any(entry[:2] == (token, unit) for entry in self.journal)


def put(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    """The tuple with another value at this place."""
    return (*values[:at], value, *values[at + 1 :])


def in_hand(worker: Worker, *phases: str) -> tuple[Held, ...]:
    """What the worker holds in these phases."""
    return tuple(held for held in worker.hand if held.phase in phases)


def rephased(worker: Worker, helds: tuple[Held, ...], phase: str) -> Worker:
    """The worker with these in another phase."""
    hand = tuple(one._replace(phase=phase) if one in helds else one for one in worker.hand)
    return worker._replace(hand=hand)
