"""Statements: what each locks, in which order, on which conditions, and what it writes.

A statement takes a snapshot, in which it finds its rows; it locks them one by one, and waits for a
locked one or skips it; it looks at each again once it is locked (READ COMMITTED); it writes and
commits. Each of these is a move of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.model.bundles import laws
from tests.model.bundles.scenario import Model
from tests.model.bundles.state import LOST, OK, Entry, Held, Lock, Op, Row, State, put

SET_WISE = ("moves", "ends", "leaves")
CLAIMS = ("claim", "claim again", "claim alone")


class Refused(Exception):
    """Postgres refuses the statement, and nothing is written."""

    def __init__(self, *, is_recorded: bool) -> None:
        self.is_recorded = is_recorded


def new_fence(s: State, token: int) -> int:
    """A fence that no other claim of this token has."""
    held = (one for worker in s.workers for one in worker.hand)
    sent = (one for op in s.ops for one in op.helds)
    used = [one.fence for one in (*held, *sent) if one.token == token]
    row = s.rows[token]
    return max([*used, 0 if row is None else row.fence]) + 1


def begin(m: Model, s: State, actor: str, kind: str, helds: Sequence[Held]) -> State:
    """A statement begins: it takes its snapshot."""
    is_draining = actor[1:].isdigit() and s.workers[int(actor[1:])].is_draining
    op = Op(actor, kind, tuple(helds), (), commands=s.commands, cancelled=s.cancelled)
    op = op._replace(draining=is_draining, ended=s.ended)
    if kind == "look":
        op = op._replace(answers=tuple(one for held in helds for one in looked(m, s, op, held)))
    if kind in CLAIMS and m.rules.claim_needs_a_live_worker:
        helds = [held for held in helds if held.owner not in s.ended]
    seen = [held.token for held in helds if _matches(m, s, op, held)]
    return _advanced(m, s, op._replace(todo=tuple(_locks(m, kind, seen))))


def _locks(m: Model, kind: str, tokens: list[int]) -> list[Lock]:
    if kind == "look":
        return []
    if kind == "claim":
        return [(token, True) for token in sorted(tokens)]
    if kind == "claim again":
        return [(token, not m.rules.claim_again_waits) for token in sorted(tokens)]
    if kind in SET_WISE:
        ordered = sorted(tokens) if m.rules.commit_locks_by_id else tokens
        locks = [(token, m.rules.commit_skips_locked) for token in ordered]
        if kind == "leaves" and not m.rules.parent_after_branches:
            locks = [*_parents(m, tokens), *locks]
        return locks
    if kind == "release":
        ordered = sorted(tokens) if m.rules.release_locks_by_id else tokens
        return [(token, not m.rules.release_waits) for token in ordered]
    locks = [(token, False) for token in tokens]
    if kind == "apply" and tokens:
        locks.append((m.run_row(m.run(tokens[0])), False))
    return locks


def _parents(m: Model, tokens: Iterable[int]) -> list[Lock]:
    """Their parents, in the order in which they come."""
    found = dict.fromkeys(m.parent(token) for token in tokens)
    return [(parent, False) for parent in found if parent is not None]


def _dependent(m: Model, s: State, op: Op) -> list[Lock]:
    """Rows that are locked after, and because of, those that were found."""
    tokens = [place for place in op.got if place < len(s.rows)]
    if op.kind == "leaves":
        # Whose parents they are is found in no order.
        return _parents(m, [held.token for held in op.helds if held.token in tokens])
    if op.kind == "ends":
        # In no order: whoever ends a run has locked its token, so two never want the same rows.
        return [(m.run_row(m.run(token)), False) for token in reversed(tokens)]
    if op.kind != "alone" or not tokens or not _is_last(m, op.helds[0]):
        return []
    (held,) = op.helds
    parent = m.parent(held.token)
    if parent is None:
        return [(m.run_row(m.run(held.token)), False)]
    siblings = [(one, True) for one in m.branches(parent) if _is_stopped(m, s, held, one)]
    return [*siblings, (parent, False)]


def _is_last(m: Model, held: Held) -> bool:
    return held.flag or held.outcome != OK or m.is_last(held.token, held.unit)


def _is_stopped(m: Model, s: State, held: Held, sibling: int) -> bool:
    """A branch that fails stops this sibling, which nobody has ever claimed."""
    row = s.rows[sibling]
    fails = held.outcome not in (OK, "") and m.parent(held.token) in m.scenario.fails_fast
    return fails and sibling != held.token and row is not None and not row.begun


def go_on(m: Model, s: State, op: Op) -> State | None:
    """The statement locks its next row, or skips it; None while it has to wait for it."""
    (place, skips), *rest = op.todo
    op = op._replace(todo=tuple(rest))
    if s.locks[place] not in ("", op.actor):
        return _advanced(m, s, op) if skips else None
    if not _still_matches(m, s, op, place):
        return _advanced(m, s, op)
    op = op._replace(got=(*op.got, place))
    return _advanced(m, s._replace(locks=put(s.locks, place, op.actor)), op)


def _advanced(m: Model, s: State, op: Op) -> State:
    if not op.todo and not op.stage:
        op = op._replace(stage=1, todo=tuple(_dependent(m, s, op)))
    return s.with_op(op)


def _still_matches(m: Model, s: State, op: Op, place: int) -> bool:
    if place >= len(s.rows):
        return True
    mine = [held for held in op.helds if held.token == place]
    if mine:
        return any(_matches(m, s, op, held) for held in mine)
    if op.kind == "alone" and place != m.parent(op.helds[0].token):
        return _is_stopped(m, s, op.helds[0], place)
    return s.rows[place] is not None


def _matches(m: Model, s: State, op: Op, held: Held) -> bool:
    """The conditions of the statement on a token's row."""
    row = s.rows[held.token]
    if row is None:
        return False
    if op.kind in CLAIMS:
        return _is_claimable(m, op, held, row)
    if op.kind in SET_WISE:
        rules = m.rules
        return (
            (row.fence == held.fence or not rules.commit_names_fence)
            and (row.owner == held.owner or not rules.commit_names_claimed_by)
            and (row.unit == held.unit or not rules.commit_names_unit)
            and (not row.flag or not rules.commit_names_flags)
        )
    is_mine = (row.fence, row.owner) == (held.fence, held.owner)
    if op.kind == "alone":
        return is_mine and (row.unit, row.flag) == (held.unit, held.flag)
    return is_mine or op.kind == "apply"


def _is_claimable(m: Model, op: Op, held: Held, row: Row) -> bool:
    is_again = m.rules.claim_again_is_one_claim and row.fence == held.fence
    if row.remaining or (row.owner and not is_again):
        return False
    if op.kind == "claim alone":
        return True
    return (
        not m.is_parent(held.token)
        and (m.scenario.max_crashes > 1 or not m.rules.claim_needs_a_second_chance)
        and (not row.crashes or not m.rules.claim_skips_suspects)
        and (not row.single or not m.rules.claim_skips_single)
    )


def looked(m: Model, s: State, op: Op, held: Held) -> list[Held]:
    """What a look makes of a token that has not begun; nothing if it is not ours any more."""
    row, rules = s.rows[held.token], m.rules
    if row is None or (rules.look_reads_ended and held.owner in s.ended):
        return []
    if rules.look_reads_fences and (row.fence, row.owner) != (held.fence, held.owner):
        return []
    if rules.look_reads_draining and op.draining:
        return [held._replace(phase="releases")]
    if rules.look_reads_commands and m.run(held.token) in op.commands:
        return [held._replace(phase="asks")]
    if rules.look_reads_flags and row.flag:
        return [held._replace(phase="alone", flag=True)]
    return [_fresh(m, op, held)]


def _fresh(m: Model, op: Op, held: Held) -> Held:
    saw = m.run(held.token) in op.cancelled
    fresh = held._replace(phase="waits", saw=saw, saw_draining=op.draining)
    return _aged(m, op, fresh._replace(saw_end=held.owner in op.ended))


def _aged(m: Model, op: Op, held: Held) -> Held:
    seems_young = op.is_old and not m.rules.age_counts_from_sending
    return held._replace(is_old=op.is_old, seems_young=seems_young)


def write(m: Model, s: State, op: Op) -> tuple[State, tuple[Held, ...]]:
    """The statement writes and commits; with what it answers.

    Raises `Refused` if Postgres does.
    """
    mine = [held for held in op.helds if held.token in op.got]
    if op.kind == "look":
        return s, tuple(_aged(m, op, one) for one in op.answers)
    if op.kind in CLAIMS:
        return _claim(m, s, op, mine)
    if op.kind in SET_WISE:
        return _commit(m, s, op, mine)
    if op.kind == "alone":
        return _commit(m, s, op, mine)
    if op.kind == "apply":
        return _apply(m, s, [held.token for held in mine]), ()
    return _release(m, s, op, mine), ()


def _claim(m: Model, s: State, op: Op, mine: list[Held]) -> tuple[State, tuple[Held, ...]]:
    answers = []
    for held in mine:
        row = s.row(held.token)
        s = s.with_row(held.token, row._replace(owner=held.owner, fence=held.fence, begun=True))
        answers.append(_admitted(m, op, held._replace(unit=row.unit), row))
    return s, tuple(answers)


def _admitted(m: Model, op: Op, held: Held, row: Row) -> Held:
    """What becomes of a claim: `core.admit`."""
    if op.draining:
        return held._replace(phase="releases")
    if m.run(held.token) in op.commands:
        return held._replace(phase="asks")
    if row.flag or m.is_parent(held.token):
        return held._replace(phase="alone", flag=row.flag)
    if row.crashes >= m.scenario.max_crashes:
        return held._replace(phase="alone", outcome=LOST)
    return _fresh(m, op, held)


def _commit(m: Model, s: State, op: Op, mine: list[Held]) -> tuple[State, tuple[Held, ...]]:
    s = _recorded(m, s, op, mine)
    answers: list[Held] = []
    left: Counter[int] = Counter()
    named = Counter(m.parent(held.token) for held in op.helds)
    for held in mine:
        row, parent = s.row(held.token), m.parent(held.token)
        if not _is_last(m, held):
            s, kept = _move(m, s, op, held, row)
            answers += kept
            continue
        s = s.with_row(held.token, None)
        if parent is None:
            continue
        left[parent] += 1
        for sibling in m.branches(parent):
            if sibling in op.got and _is_stopped(m, s, held, sibling):
                s = s.with_row(sibling, None)
                left[parent] += 1
        if held.outcome not in (OK, "") and parent in m.scenario.fails_fast:
            laws.check_stop(s, m.branches(parent))
    if not m.rules.leave_counts_its_rows:
        left = Counter({parent: named[parent] for parent in left})
    for parent, count in left.items():
        row = s.row(parent)
        s = s.with_row(parent, row._replace(remaining=row.remaining - count))
        if row.remaining == count:
            s = s._replace(outbox=s.outbox | {parent})
    return s, tuple(answers)


def _recorded(m: Model, s: State, op: Op, mine: list[Held]) -> State:
    helds: Sequence[Held] = mine
    if op.kind in SET_WISE and not m.rules.journal_follows_the_rows:
        helds = op.helds
    entries = [Entry(one.token, one.unit, one.outcome) for one in helds if one.outcome]
    if m.rules.journal_is_unique and any(s.is_recorded(*one[:2]) for one in entries):
        raise Refused(is_recorded=True)
    if any(one.outcome == OK and one[:2] in m.scenario.refused for one in entries):
        raise Refused(is_recorded=False)
    for entry in entries:
        laws.check_entry(m, s, entry)
    done = s.done - {entry[:2] for entry in entries}
    return s._replace(journal=s.journal | set(entries), done=done)


def _move(m: Model, s: State, op: Op, held: Held, row: Row) -> tuple[State, list[Held]]:
    moved = row._replace(unit=held.unit + 1, crashes=0, single=False)
    if (held.token, held.unit) in m.scenario.releasing:
        s = s.with_row(held.token, moved._replace(owner=0))
        hints = {held.token} if m.rules.release_puts_hints else set()
        return s._replace(outbox=s.outbox | hints), []
    kept = held._replace(unit=held.unit + 1, outcome="", flag=False)
    if op.draining:
        kept = kept._replace(phase="releases")
    elif m.run(held.token) in op.commands:
        kept = kept._replace(phase="asks")
    else:
        kept = _fresh(m, op, kept)
    return s.with_row(held.token, moved), [kept]


def _release(m: Model, s: State, op: Op, mine: list[Held]) -> State:
    for held in mine:
        row = s.row(held.token)._replace(owner=0)
        if op.kind == "abandon":
            row = row._replace(fence=new_fence(s, held.token))
        if op.actor.startswith("g"):
            row = row._replace(single=True)
        s = s.with_row(held.token, row)
        if m.rules.give_back_puts_hints:
            s = s._replace(outbox=s.outbox | {held.token})
    return s


def _apply(m: Model, s: State, tokens: list[int]) -> State:
    """Tokens that nobody has claimed end; the others get the flag. Branches come first."""
    for token in tokens:
        row, parent = s.row(token), m.parent(token)
        if row.owner or row.remaining:
            s = s.with_row(token, row._replace(flag=True))
            continue
        s = s.with_row(token, None)
        if parent is not None:
            above = s.row(parent)
            s = s.with_row(parent, above._replace(remaining=above.remaining - 1))
    runs = {m.run(token) for token in tokens}
    return s._replace(commands=s.commands - runs)
