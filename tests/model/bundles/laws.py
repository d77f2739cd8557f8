"""What holds in every state and at every move; each law names its promise."""

from __future__ import annotations

from collections.abc import Iterable

from tests.model.bundles.scenario import Model
from tests.model.bundles.state import LOST, OK, Entry, Held, State, Worker, in_hand


class Broken(AssertionError):
    """A law does not hold."""


def holds(condition: object, law: str, *facts: object) -> None:
    if not condition:
        raise Broken(": ".join([law, *map(str, facts)]))


def check_beginning(m: Model, s: State, worker: Worker, held: Held) -> None:
    """The laws of a unit that begins, in the state before."""
    unit = (held.token, held.unit)
    is_live = worker.id not in s.ended
    knew = held.is_old or held.saw
    is_cancelled = m.run(held.token) in s.cancelled
    holds(not (is_cancelled and knew), "nothing begins after a cancel has committed", unit)
    drains = worker.is_draining and (held.is_old or held.saw_draining)
    holds(not drains, "a worker that drains begins nothing", unit)
    woke = held.is_old or held.saw_end
    holds(is_live or not woke, "a frozen process that wakes begins nothing", unit)
    if not is_live:
        return
    holds(not s.is_recorded(*unit), "P3: once recorded never runs again", unit)
    for other in s.workers:
        if other.id != worker.id and other.id not in s.ended:
            same = [one for one in in_hand(other, "runs") if (one.token, one.unit) == unit]
            holds(not same, "P4: one execution at a time", unit)
    crashed = s.left.shots < m.scenario.mishaps.shots or m.scenario.killing
    was_declared = s.left.declared < m.scenario.mishaps.declared
    if not crashed and not was_declared:
        holds(unit not in s.done, "what has completed is repeated only after a crash", unit)


def check_stop(s: State, siblings: Iterable[int]) -> None:
    """A branch has failed: nothing is left behind a unit that is executed."""
    for worker in s.workers:
        if worker.is_alive and in_hand(worker, "runs", "ready"):
            behind = [one.token for one in in_hand(worker, "waits") if one.token in siblings]
            left = [token for token in behind if s.rows[token] is not None]
            holds(not left, "fail_fast drops what has not begun", left)


def check_entry(m: Model, s: State, entry: Entry) -> None:
    """What is recorded is what happened."""
    unit = entry[:2]
    holds(not s.is_recorded(*unit), "P3: recorded once", unit)
    if entry.outcome == LOST:
        holds(unit in m.scenario.killing, "an innocent unit never fails as WorkerLost", unit)
    elif entry.outcome != OK:
        fails = unit in m.scenario.failing or unit in m.scenario.refused
        holds(fails, "P1: what succeeded is recorded so", unit)


def check_crash(m: Model, s: State, token: int, owner: int) -> None:
    """A crash is counted."""
    is_clean = owner in s.exited and s.left.shots == m.scenario.mishaps.shots
    holds(not is_clean, "an exit counts no crash on what has not begun", token)


def check(m: Model, s: State) -> None:
    """The laws of a state."""
    _no_deadlock(s)
    for token, row in enumerate(s.rows):
        units = {entry.unit: entry.outcome for entry in s.journal if entry.token == token}
        if row is None:
            _ended(m, s, token, units)
            continue
        branches = [one for one in m.branches(token) if s.rows[one] is not None]
        holds(row.remaining == len(branches), "P2: the gate counts its branches", token)
        recorded = sorted(units.items())
        is_so = recorded == [(unit, OK) for unit in range(row.unit)]
        holds(is_so, "P1: a journal entry goes with its move", token, recorded, row.unit)


def _ended(m: Model, s: State, token: int, units: dict[int, str]) -> None:
    is_excused = m.is_parent(token) or m.run(token) in s.cancelled
    is_excused = is_excused or m.parent(token) in m.scenario.fails_fast
    is_failed = any(outcome != OK for outcome in units.values())
    is_whole = len(units) == m.scenario.shapes[token].units
    holds(is_excused or is_failed or is_whole, "P1: what has ended is recorded whole", token)


def _no_deadlock(s: State) -> None:
    waiting = {op.actor: s.holder_before(op) for op in s.ops}
    for actor, before in waiting.items():
        seen, at = [actor], before
        while at and at not in seen:
            seen.append(at)
            at = waiting.get(at, "")
        holds(not at, "no deadlock", seen)
