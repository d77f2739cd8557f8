"""The executor of a worker: it claims, begins one unit after the other, and commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.model.bundles import laws, statements
from tests.model.bundles.answers import Step, statement_moves
from tests.model.bundles.scenario import Model
from tests.model.bundles.state import FAILED, OK, Held, State, Worker, in_hand, put, rephased

SINGLY = ("unsure", "asks", "asked", "releases", "abandons")


def executor_moves(m: Model, s: State, n: int) -> Iterator[Step]:
    """What the executor of worker `n` can do next."""
    worker, actor = s.workers[n], f"w{n}"
    if op := s.op_of(actor):
        yield from statement_moves(m, s, op)
    elif worker.is_alive:
        yield from _between_statements(m, s, n)


def _between_statements(m: Model, s: State, n: int) -> Iterator[Step]:
    worker = s.workers[n]
    if running := in_hand(worker, "runs"):
        yield from _handler_moves(m, s, n, running[0])
    elif worker.is_exiting:
        if not _waits_for_guard(m, s, n):
            yield _exit(m, s, n)
    elif worker.hand:
        if step := _next(m, s, n):
            yield step
    elif worker.skipped:
        yield _claim_alone(m, s, n)
    elif worker.message:
        yield f"w{n} acknowledges", s.with_worker(n, worker._replace(message=()))
    elif not worker.is_draining:
        yield from _deliveries(m, s, n)


def _deliveries(m: Model, s: State, n: int) -> Iterator[Step]:
    for place, message in enumerate(s.broker):
        worker = s.workers[n]._replace(message=message)
        after = s._replace(broker=(*s.broker[:place], *s.broker[place + 1 :]))
        if len(message) == 1:
            worker = worker._replace(skipped=message)
            yield f"w{n} gets {message}", after.with_worker(n, worker)
        else:
            helds = [_wanted(s, worker, token) for token in message]
            after = statements.begin(m, after.with_worker(n, worker), f"w{n}", "claim", helds)
            yield f"w{n} gets {message}", after


def _wanted(s: State, worker: Worker, token: int) -> Held:
    return Held(token, 0, statements.new_fence(s, token), worker.id, "waits")


def _claim_alone(m: Model, s: State, n: int) -> Step:
    worker = s.workers[n]
    token, *rest = worker.skipped
    helds = [_wanted(s, worker, token)]
    s = s.with_worker(n, worker._replace(skipped=tuple(rest)))
    return f"w{n} tries {token} alone", statements.begin(m, s, f"w{n}", "claim alone", helds)


def _next(m: Model, s: State, n: int) -> Step | None:
    """What is to be done with the hand."""
    worker = s.workers[n]
    if worker.skipped and not m.rules.suspects_wait_for_the_bundle:
        return _claim_alone(m, s, n)
    if singly := in_hand(worker, *SINGLY):
        return _singly(m, s, n, singly[0])
    ready = in_hand(worker, "ready")
    if alone := in_hand(worker, "alone"):
        # What was pending before it comes first.
        return _commit(m, s, n, ready) if ready else _statement(m, s, n, "alone", alone[:1])
    if waiting := in_hand(worker, "waits"):
        return _begin(m, s, n, waiting)
    return _commit(m, s, n, ready) if ready else None


def _statement(m: Model, s: State, n: int, kind: str, helds: Sequence[Held]) -> Step:
    tokens = ",".join(str(held.token) for held in helds)
    return f"w{n} sends {kind} {tokens}", statements.begin(m, s, f"w{n}", kind, helds)


def _begin(m: Model, s: State, n: int, waiting: tuple[Held, ...]) -> Step:
    worker, held = s.workers[n], waiting[0]
    if held.is_old and not held.seems_young and m.rules.looks_again:
        return _statement(m, s, n, "look", waiting)
    laws.check_beginning(m, s, worker, held)
    worker = rephased(worker, (held,), "runs")
    return f"w{n} begins {held.token}#{held.unit}", s.with_worker(n, worker)


def set_of(m: Model, helds: tuple[Held, ...]) -> tuple[str, tuple[Held, ...]]:
    """The first statement that writes some of these, and which."""
    first = kind_of(m, helds[0])
    mine = [held for held in helds if kind_of(m, held) == first]
    if first == "leaves" and m.rules.one_parent_each:
        mine = [held for held in mine if m.parent(held.token) == m.parent(helds[0].token)]
    return first, tuple(mine)


def kind_of(m: Model, held: Held) -> str:
    if not m.is_last(held.token, held.unit):
        return "moves"
    return "ends" if m.parent(held.token) is None else "leaves"


def _commit(m: Model, s: State, n: int, ready: tuple[Held, ...]) -> Step:
    kind, mine = set_of(m, ready)
    s = s.with_worker(n, rephased(s.workers[n], mine, "written"))
    return _statement(m, s, n, kind, mine)


def _singly(m: Model, s: State, n: int, held: Held) -> Step:
    match held.phase:
        case "releases":
            return _statement(m, s, n, "release", (held,))
        case "abandons":
            return _statement(m, s, n, "abandon", (held,))
        case "asks" if m.run(held.token) in s.commands:
            tokens = [one for one in m.tokens(m.run(held.token)) if s.rows[one] is not None]
            helds = [held._replace(token=token) for token in tokens]
            return _statement(m, s, n, "apply", helds)
        case _:
            return _read(m, s, n, held)


def _read(m: Model, s: State, n: int, held: Held) -> Step:
    """The worker reads where the token stands, and tells apart why a commit found no row."""
    row, place = s.rows[held.token], s.workers[n].hand.index(held)
    worker = s.workers[n]
    if row is None or row.fence != held.fence:
        hand = (*worker.hand[:place], *worker.hand[place + 1 :])
        return f"w{n} has lost {held.token}", s.with_worker(n, worker._replace(hand=hand))
    if (row.unit, row.owner) != (held.unit, held.owner):
        now = held._replace(phase="abandons")
        if not m.rules.written_before_is_given_back:
            hand = (*worker.hand[:place], *worker.hand[place + 1 :])
            return f"w{n} forgets {held.token}", s.with_worker(n, worker._replace(hand=hand))
    elif row.flag:
        now = held._replace(phase="alone", flag=True)
    else:
        now = held._replace(phase="waits" if held.phase in ("asks", "asked") else "alone")
    hand = put(worker.hand, place, now)
    label = f"w{n} reads {held.token}: {now.phase}"
    return label, s.with_worker(n, worker._replace(hand=hand))


def _handler_moves(m: Model, s: State, n: int, held: Held) -> Iterator[Step]:
    worker, unit = s.workers[n], (held.token, held.unit)
    if unit in m.scenario.killing:
        yield f"{held.token}#{held.unit} kills w{n}", killed(s, n)
        return
    awaited = m.scenario.waiting_for.get(unit)
    if awaited is not None and s.rows[awaited] is not None:
        return
    outcome = FAILED if unit in m.scenario.failing else OK
    phase = "ready" if outcome == OK else "alone"
    place = worker.hand.index(held)
    hand = put(worker.hand, place, held._replace(phase=phase, outcome=outcome))
    done = s._replace(done=s.done | {unit})
    yield (
        f"w{n} has executed {held.token}#{held.unit}: {outcome}",
        done.with_worker(n, worker._replace(hand=hand)),
    )
    if s.left.exits:
        exiting = rephased(worker, (held,), "abandons")._replace(is_exiting=True)
        after = s._replace(left=s.left._replace(exits=s.left.exits - 1))
        label = f"{held.token}#{held.unit} raises SystemExit in w{n}"
        yield label, after.with_worker(n, exiting)


def _waits_for_guard(m: Model, s: State, n: int) -> bool:
    worker = s.workers[n]
    others = [held for held in worker.hand if held.phase not in ("guarded", "returned")]
    return bool(m.rules.exit_waits_for_guard and s.op_of(f"g{n}") and not others)


def _exit(m: Model, s: State, n: int) -> Step:
    """Write what is ready, abandon the one that was executed, release what has not begun."""
    worker, rules = s.workers[n], m.rules
    ready = in_hand(worker, "ready")
    if ready and rules.exit_writes_ready:
        return _commit(m, s, n, ready)
    if alone := in_hand(worker, "alone"):
        return _statement(m, s, n, "alone", alone[:1])
    if singly := in_hand(worker, "unsure", "abandons", "asked"):
        return _singly(m, s, n, singly[0])
    waiting = in_hand(worker, "waits", "releases", "asks", "ready")
    if waiting and rules.exit_gives_back:
        releasing = rephased(worker, waiting, "releases")
        waiting = tuple(held._replace(phase="releases") for held in waiting)
        return _statement(m, s.with_worker(n, releasing), n, "release", waiting)
    return _process_ends(m, s, n)


def _process_ends(m: Model, s: State, n: int) -> Step:
    worker = s.workers[n]
    if worker.skipped and m.rules.exit_hints_skipped:
        hinted = s._replace(outbox=s.outbox | set(worker.skipped))
        return f"w{n} hints {worker.skipped}", hinted.with_worker(n, worker._replace(skipped=()))
    after = killed(s.with_worker(n, worker._replace(message=())), n)
    after = after._replace(ended=s.ended | {worker.id}, exited=s.exited | {worker.id})
    return f"w{n} exits", after


def _orphan(s: State, actor: str) -> str:
    """A name for the statement of a process that is gone."""
    taken = {op.actor for op in s.ops}
    return next(name for name in (f"x{n}{actor}" for n in range(9)) if name not in taken)


def killed(s: State, n: int) -> State:
    """The process is gone; its statements go on in Postgres, and its message comes again."""
    worker = s.workers[n]
    ops, locks = [], list(s.locks)
    for op in s.ops:
        if op.actor not in (f"w{n}", f"g{n}"):
            ops.append(op)
            continue
        orphan = _orphan(s, op.actor)
        ops.append(op._replace(actor=orphan))
        locks = [orphan if holder == op.actor else holder for holder in locks]
    broker = {*s.broker, worker.message} - {()} if worker.message else s.broker
    s = s._replace(ops=tuple(sorted(ops)), locks=tuple(locks), broker=tuple(sorted(broker)))
    return s.with_worker(n, Worker(worker.id, is_alive=False))
