"""States that differ in names only are one: fences and ids of workers are numbered anew."""

from __future__ import annotations

from tests.model.bundles.state import Held, Op, Row, State


def canonical(s: State) -> State:
    """The same state with the smallest numbers, and without messages for what has ended."""
    if not s.ended:
        return s  # nobody has died: there are few numbers
    held = [one for worker in s.workers for one in worker.hand]
    held += [one for op in s.ops for one in (*op.helds, *op.answers)]
    fences: list[dict[int, int]] = []
    for token, row in enumerate(s.rows):
        used = {one.fence for one in held if one.token == token}
        if row is not None:
            used.add(row.fence)
        fences.append({fence: n for n, fence in enumerate(sorted(used))})
    known = {worker.id for worker in s.workers} | {one.owner for one in held}
    known |= {row.owner for row in s.rows if row is not None}
    ids = {owner: n for n, owner in enumerate(sorted(known | {0}))}
    if _is_so(s, fences, ids):
        return s

    def renamed(one: Held) -> Held:
        return one._replace(fence=fences[one.token][one.fence], owner=ids[one.owner])

    def row_of(token: int, row: Row | None) -> Row | None:
        if row is None:
            return None
        return row._replace(fence=fences[token][row.fence], owner=ids[row.owner])

    def op_of(op: Op) -> Op:
        return op._replace(
            helds=tuple(map(renamed, op.helds)), answers=tuple(map(renamed, op.answers))
        )

    return s._replace(
        rows=tuple(row_of(token, row) for token, row in enumerate(s.rows)),
        workers=tuple(
            worker._replace(id=ids[worker.id], hand=tuple(map(renamed, worker.hand)))
            for worker in s.workers
        ),
        ops=tuple(op_of(op) for op in s.ops),
        ended=frozenset(ids[one] for one in s.ended if one in ids),
        exited=frozenset(ids[one] for one in s.exited if one in ids),
        reaped=frozenset(ids[one] for one in s.reaped if one in ids),
        outbox=frozenset(token for token in s.outbox if s.rows[token]),
        broker=tuple(one for one in s.broker if any(s.rows[token] for token in one)),
    )


def _is_so(s: State, fences: list[dict[int, int]], ids: dict[int, int]) -> bool:
    return (
        all(number == n for numbers in fences for number, n in numbers.items())
        and all(number == n for number, n in ids.items())
        and all(one in ids for one in (*s.ended, *s.exited, *s.reaped))
        and all(s.rows[token] for token in s.outbox)
        and all(any(s.rows[token] for token in one) for one in s.broker)
    )
