"""Relay, reaper, recovery, whoever cancels; and what may go wrong."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bundles import laws, statements
from tests.model.bundles.answers import Step, new_id, statement_moves
from tests.model.bundles.executor import killed
from tests.model.bundles.scenario import Model
from tests.model.bundles.state import Held, State, Worker


def background_moves(m: Model, s: State) -> Iterator[Step]:
    """What happens beside the workers."""
    if s.outbox and not s.broker:
        # That it may also publish earlier adds states, and nothing that happens in them.
        yield f"the relay publishes {sorted(s.outbox)}", _published(m, s)
    yield from _orphans(m, s)
    yield from _reaper(m, s)
    yield from _cancel(m, s)
    if s.left.lost < m.scenario.mishaps.lost:
        for token in _hintable(s):
            if not _is_told(s, token):
                yield f"recovery hints {token}", s._replace(outbox=s.outbox | {token})


def _published(m: Model, s: State) -> State:
    bundle: list[int] = []
    singles: list[int] = []
    for token in sorted(s.outbox):
        row = s.rows[token]
        if row is None:
            continue
        is_plain = not row.crashes and not row.single and not m.is_parent(token)
        (bundle if is_plain else singles).append(token)
    messages = {*s.broker, *((token,) for token in singles)}
    if bundle:
        messages.add(tuple(bundle))
    return s._replace(outbox=frozenset(), broker=tuple(sorted(messages)))


def _orphans(m: Model, s: State) -> Iterator[Step]:
    """Statements of processes that are gone end, or Postgres notices and rolls them back."""
    for op in s.ops:
        if op.actor.startswith("x"):
            yield from statement_moves(m, s, op)
            yield f"{op.actor}: {op.kind} is rolled back", s.without_op(op.actor)


def _reaper(m: Model, s: State) -> Iterator[Step]:
    for n, worker in enumerate(s.workers):
        if not worker.is_alive and worker.id not in s.ended:
            yield f"w{n} is declared dead", s._replace(ended=s.ended | {worker.id})
        elif not any(one.is_alive for one in s.workers):
            yield f"a process takes the place of w{n}", s.with_worker(n, Worker(new_id(s)))
    claims = [(t, row.owner) for t, row in enumerate(s.rows) if row and row.owner in s.ended]
    if m.rules.reap_is_of_levels:
        for token, _ in claims:
            if not s.locks[token]:
                yield f"the reaper frees {token}", _reaped(m, s, token)
        return
    for owner in s.ended - s.reaped:
        after = s._replace(reaped=s.reaped | {owner})
        for token, claimed_by in claims:
            if claimed_by == owner and not s.locks[token]:
                after = _reaped(m, after, token)
        yield f"the reaper frees what worker {owner} has claimed", after


def _reaped(m: Model, s: State, token: int) -> State:
    row = s.row(token)
    if m.rules.reap_counts_crashes:
        laws.check_crash(m, s, token, row.owner)
        row = row._replace(crashes=row.crashes + 1)
    s = s.with_row(token, row._replace(owner=0, fence=statements.new_fence(s, token)))
    return s._replace(outbox=s.outbox | {token}) if m.rules.reap_puts_hints else s


def _cancel(m: Model, s: State) -> Iterator[Step]:
    """The second transaction of a cancel; recovery sees to it that there is one."""
    if op := s.op_of("c"):
        yield from statement_moves(m, s, op)
        return
    for run in sorted(s.commands):
        tokens = [token for token in m.tokens(run) if s.rows[token] is not None]
        helds = [Held(token, 0, 0, 0, "") for token in tokens]
        if helds:
            yield f"the cancel of run {run} is applied", statements.begin(m, s, "c", "apply", helds)
        else:
            yield f"the cancel of run {run} is late", s._replace(commands=s.commands - {run})


def _hintable(s: State) -> list[int]:
    return [t for t, row in enumerate(s.rows) if row and not row.owner and not row.remaining]


def _is_told(s: State, token: int) -> bool:
    """There is a hint, or somebody has just got it."""
    messages = [*s.broker, *(worker.message for worker in s.workers)]
    skipped = (worker.skipped for worker in s.workers)
    return token in s.outbox or any(token in one for one in (*messages, *skipped))


def mishaps(m: Model, s: State) -> Iterator[Step]:
    """What may go wrong, and what users do."""
    left = s.left
    for n, worker in enumerate(s.workers):
        if n == 0:  # all workers are alike
            yield from _mishaps_of(m, s, n, worker)
        if m.scenario.time_passes and worker.is_alive and (after := aged(s, n)) != s:
            yield f"time passes for w{n}", after
    yield from _hints_lost_and_doubled(s)
    if left.cancels:
        for run in sorted({shape.run for shape in m.scenario.shapes} - s.cancelled):
            tokens = [token for token in m.tokens(run) if s.rows[token] is not None]
            if tokens:
                yield f"a cancel of run {run} commits", _cancelled(s, run, tokens)


def _hints_lost_and_doubled(s: State) -> Iterator[Step]:
    left = s.left
    if left.lost:
        for message in s.broker:
            broker = tuple(one for one in s.broker if one != message)
            after = s._replace(broker=broker, left=left._replace(lost=left.lost - 1))
            yield f"the broker loses {message}", after
    if left.rehints:
        for token in _hintable(s):
            after = s._replace(outbox=s.outbox | {token})
            after = after._replace(left=left._replace(rehints=left.rehints - 1))
            yield f"recovery hints {token} again", after


def _cancelled(s: State, run: int, tokens: list[int]) -> State:
    return s._replace(
        commands=s.commands | {run},
        cancelled=s.cancelled | {run},
        outbox=s.outbox | {tokens[-1]},
        left=s.left._replace(cancels=s.left.cancels - 1),
    )


def _mishaps_of(m: Model, s: State, n: int, worker: Worker) -> Iterator[Step]:
    if not worker.is_alive:
        return
    is_busy = bool(worker.message or worker.hand)
    left = s.left
    if left.shots and is_busy:
        yield f"kill -9 of w{n}", killed(s._replace(left=left._replace(shots=left.shots - 1)), n)
    if left.declared and is_busy and worker.id not in s.ended:
        after = s._replace(
            left=left._replace(declared=left.declared - 1), ended=s.ended | {worker.id}
        )
        yield f"w{n}, which lives, is declared dead", aged(after, n)
    if left.drains and not worker.is_draining:
        after = s._replace(left=left._replace(drains=left.drains - 1))
        yield f"w{n} drains", after.with_worker(n, worker._replace(is_draining=True))


def aged(s: State, n: int) -> State:
    """Time passes in a worker: its looks are old, those on their way too."""
    worker = s.workers[n]
    hand = [
        one._replace(is_old=True, seems_young=False) if one.phase == "waits" else one
        for one in worker.hand
    ]
    mine = (f"w{n}", f"g{n}")
    ops = [op._replace(is_old=True) if op.actor in mine else op for op in s.ops]
    s = s._replace(ops=tuple(ops))
    return s.with_worker(n, worker._replace(hand=tuple(hand)))
