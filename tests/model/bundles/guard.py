"""The guard of a worker: it writes and gives back while a handler is executed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bundles import statements
from tests.model.bundles.answers import Step, statement_moves
from tests.model.bundles.executor import set_of
from tests.model.bundles.scenario import Model
from tests.model.bundles.state import State, in_hand, rephased


def guard_moves(m: Model, s: State, n: int) -> Iterator[Step]:
    """What the guard of worker `n` can do next."""
    worker, actor = s.workers[n], f"g{n}"
    if op := s.op_of(actor):
        yield from statement_moves(m, s, op)
        return
    if not (m.scenario.has_guard and worker.is_alive and in_hand(worker, "runs")):
        return
    ready, waiting = in_hand(worker, "ready"), in_hand(worker, "waits")
    if ready and m.rules.guard_writes:
        kind, mine = set_of(m, ready)
        if m.rules.one_lock:
            worker = rephased(worker, mine, "guarded")
        after = statements.begin(m, s.with_worker(n, worker), actor, kind, mine)
        yield f"{actor} sends {kind} {[held.token for held in mine]}", after
    if waiting and m.rules.guard_gives_back:
        if m.rules.one_lock:
            worker = rephased(s.workers[n], waiting, "returned")
        after = statements.begin(m, s.with_worker(n, worker), actor, "release", waiting)
        yield f"{actor} gives back {[held.token for held in waiting]}", after
    if worker.skipped and m.rules.guard_hints_skipped:
        hinted = s._replace(outbox=s.outbox | set(worker.skipped))
        worker = s.workers[n]._replace(skipped=())
        yield f"{actor} hints {s.workers[n].skipped}", hinted.with_worker(n, worker)
