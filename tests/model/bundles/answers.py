"""A statement goes on, commits, and is answered: what its worker makes of the answer."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.bundles import statements
from tests.model.bundles.scenario import Model
from tests.model.bundles.state import FAILED, OK, Held, Op, State, Worker, put
from tests.model.bundles.statements import SET_WISE, Refused

Step = tuple[str, State]


def statement_moves(m: Model, s: State, op: Op) -> Iterator[Step]:
    """The next move of a statement."""
    name = f"{op.actor}: {op.kind} {','.join(str(held.token) for held in op.helds)}"
    if op.todo:
        after = statements.go_on(m, s, op)
        if after is not None:
            yield f"{name}: to the row {op.todo[0][0]}", after
        return
    try:
        written, answers = statements.write(m, s, op)
    except Refused as refused:
        yield f"{name} is refused", _refused(m, s.without_op(op.actor), op, refused)
        return
    written = written.without_op(op.actor)
    got = tuple(token for token in op.got if token < len(s.rows))
    yield f"{name} commits {got}", _answered(m, written, op, answers)
    if s.left.answers and op.kind not in ("look", "apply") and op.actor[0] in "wg":
        left = s.left._replace(answers=s.left.answers - 1)
        kind = "claim again" if op.kind == "claim" else op.kind
        again = statements.begin(m, written._replace(left=left), op.actor, kind, op.helds)
        yield f"{name} commits {got}, the answer is lost, it is sent again", again


def worker_of(actor: str) -> int | None:
    """The number of the worker that an actor belongs to; None of those without one."""
    return int(actor[1:]) if actor[0] in "wg" else None


def _answered(m: Model, s: State, op: Op, answers: tuple[Held, ...]) -> State:
    n = worker_of(op.actor)
    if n is None:
        return s
    worker = s.workers[n]
    if op.kind == "look":
        worker = _after_look(worker, op, answers)
    elif op.kind in ("claim", "claim again"):
        worker = _after_claim(m, worker, op, answers)
    elif op.kind == "claim alone":
        return _after_claim_alone(s, n, op, answers)
    elif op.kind in SET_WISE or op.kind == "alone":
        worker = _after_commit(m, worker, op, answers)
    elif op.kind == "apply":
        hand = [one._replace(phase="asked") if one.phase == "asks" else one for one in worker.hand]
        worker = worker._replace(hand=tuple(hand))
    else:
        gone = {held.token for held in op.helds}
        phases = ("waits", "returned", "releases", "abandons")
        hand = [one for one in worker.hand if one.token not in gone or one.phase not in phases]
        worker = worker._replace(hand=tuple(hand))
    return s.with_worker(n, worker)


def _after_look(worker: Worker, op: Op, answers: tuple[Held, ...]) -> Worker:
    found = {one.token: one for one in answers}
    looked_at = {held.token for held in op.helds}
    hand: list[Held] = []
    for one in worker.hand:
        if one.phase != "waits" or one.token not in looked_at:
            hand.append(one)
        elif one.token in found:
            hand.append(found[one.token])
    return worker._replace(hand=tuple(hand))


def _after_claim(m: Model, worker: Worker, op: Op, answers: tuple[Held, ...]) -> Worker:
    found = {one.token: one for one in answers}
    hand = tuple(found[held.token] for held in op.helds if held.token in found)
    missing = tuple(held.token for held in op.helds if held.token not in found)
    if not m.rules.skipped_are_tried_alone:
        missing = ()
    return worker._replace(hand=hand, skipped=missing)


def _after_claim_alone(s: State, n: int, op: Op, answers: tuple[Held, ...]) -> State:
    worker = s.workers[n]
    if answers or worker.id not in s.ended:
        return s.with_worker(n, worker._replace(hand=(*worker.hand, *answers)))
    # It had been declared dead: it takes a new id, and tries again.
    tried = op.helds[0].token
    renewed = worker._replace(id=new_id(s), skipped=(tried, *worker.skipped))
    return s.with_worker(n, renewed)


def new_id(s: State) -> int:
    """An id that no worker has had."""
    return max([*s.ended, *(worker.id for worker in s.workers)]) + 1


def _after_commit(m: Model, worker: Worker, op: Op, answers: tuple[Held, ...]) -> Worker:
    found = {one.token: one for one in answers}
    hand: list[Held] = []
    for one in worker.hand:
        mine = next((held for held in op.helds if held.token == one.token), None)
        if mine is None or (one.unit, one.fence) != (mine.unit, mine.fence):
            hand.append(one)
        elif one.token in found:
            hand.append(found[one.token])
        elif one.token not in op.got and (op.kind == "alone" or m.rules.missing_go_alone):
            hand.append(one._replace(phase="unsure" if op.kind == "alone" else "alone"))
    if not m.rules.each_has_its_own_look:
        hand = [one._replace(seems_young=one.is_old) for one in hand]
    return worker._replace(hand=tuple(hand))


def _refused(m: Model, s: State, op: Op, refused: Refused) -> State:
    n = worker_of(op.actor)
    if n is None:
        return s
    worker = s.workers[n]
    for place, one in enumerate(worker.hand):
        if all(held.token != one.token for held in op.helds):
            continue
        if op.kind == "alone" and refused.is_recorded:
            now = one._replace(phase="abandons")
        else:
            fails = op.kind == "alone" or not m.rules.refused_go_one_by_one
            outcome = FAILED if fails and one.outcome == OK else one.outcome
            now = one._replace(phase="alone", outcome=outcome)
        worker = worker._replace(hand=put(worker.hand, place, now))
    return s.with_worker(n, worker)
