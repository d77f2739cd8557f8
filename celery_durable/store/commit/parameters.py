"""The variant of a commit, which says which statement it is, and the statement's parameters.

A parameter has the name of the column of the token that it is written to (`delay`: `wake_at`). The
others are:

    token_id, held_*, seen_flags, worker  what the token's row must hold, or nothing is written
    record_*_<n>, *_<n>                   the n-th journal record, from 0
    status, finishes, run_*               the run's row
    message                               the inbox row of the signal that is consumed
    workflow, parent_token                for the text and the target of hints
    sent                                  the tasks that are sent with the commit

`fork` has the parameters of its own parts. A variant uses the parameters of its parts; the drivers
ignore the rest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_never

from celery_durable.core.claim import Claim
from celery_durable.core.decision import (
    Decision,
    End,
    Fork,
    JournalRecord,
    Leave,
    Move,
    Outcome,
    Park,
    RunChange,
    Then,
)
from celery_durable.core.status import FINISHED
from celery_durable.core.token import Flags, ForChild, ForSignal, Token
from celery_durable.core.values import value
from celery_durable.store.commit import fork
from celery_durable.store.connection import Parameters
from celery_durable.store.outbox import tasks_parameters
from celery_durable.store.rows import assignees_text, error_text, failures_text, kind_of


@value(frozen=True, slots=True)
class Routed:
    """The claim is released; the token's message, if there is one, goes to `queue`.

    `single`: it names no other token.
    """

    queue: str
    priority: int | None
    time_limit: float | None = None
    single: bool = False


@value(frozen=True, slots=True)
class Variant:
    """Which parts a commit has. Each variant is one statement, compiled once."""

    then: type[Then]
    records: int
    are_plain: bool
    is_smooth: bool
    changes_run: bool
    releases: bool
    hints: bool
    is_plain: bool
    consumes: bool
    clears: bool
    hints_parent: bool
    stops: bool
    sends: bool


def variant_of(claim: Claim, decision: Decision, routed: Routed | None) -> Variant:
    """The variant of the commit that writes `decision`."""
    then = decision.then
    return Variant(
        then=type(then),
        records=len(decision.records),
        are_plain=all(map(is_plain_record, decision.records)),
        is_smooth=is_smooth(decision),
        changes_run=decision.run is not None,
        releases=routed is not None,
        hints=routed is not None
        and (isinstance(then, Move) or (isinstance(then, Park) and then.timeout is not None)),
        is_plain=isinstance(then, Move) and is_plain(decision.token) and is_plain(then.token),
        consumes=decision.consumes is not None,
        clears=may_have_a_timer(decision.token),
        hints_parent=isinstance(then, End) and claim.run.parent_token is not None,
        stops=isinstance(then, Leave) and then.stops,
        sends=bool(decision.sends),
    )


def may_have_a_timer(token: Token) -> bool:
    """True if a hint for later may be in the outbox for a token that moves on before.

    A token that waits for a signal may have a timeout; one that is flagged may have slept.
    """
    return isinstance(token.wait, ForSignal) or token.flags is not Flags.NONE


def is_plain(token: Token) -> bool:
    """True if the token has nothing that only branches, loops and waits have: the hot case."""
    rare = (token.part, token.position, token.wait, token.input, token.snapshot, token.answer)
    return rare == (None,) * len(rare)


def is_plain_record(record: JournalRecord) -> bool:
    """True if the record has nothing that only branches, loops and children have."""
    rare = (record.part, record.position, record.gathers, record.child)
    return rare == (None,) * len(rare)


def is_smooth(decision: Decision) -> bool:
    """Return True if a step goes on to the next one, and nothing else ever happened to either.

    That is what nearly every commit is: it needs half of the parameters.
    """
    token, then, records = decision.token, decision.then, decision.records
    if not isinstance(then, Move) or then.delay > 0 or len(records) != 1:
        return False
    record, to = records[0], then.token
    is_completed = record.outcome is Outcome.COMPLETED and record.unit == token.unit
    is_first_try = to.attempt == 1 and not to.crashes
    return (
        is_completed
        and is_first_try
        and is_plain_record(record)
        and is_untouched(token)
        and is_untouched(to)
        and is_plain(token)
        and is_plain(to)
    )


def is_untouched(token: Token) -> bool:
    """Return True if its unit goes forward, has not failed, and nothing is asked of it."""
    return token.flags is Flags.NONE and token.rollback is None and not token.failures


def parameters_of(claim: Claim, decision: Decision, routed: Routed | None) -> Parameters:
    """The parameters of the statement that writes `decision`."""
    token = decision.token
    parameters: dict[str, Any] = {
        "token_id": token.id,
        "held_fence": claim.fence,
        "seen_flags": int(token.flags),
        "held_unit": token.unit,
        "held_attempt": token.attempt,
        "held_wait": kind_of(token.wait),
        "worker": claim.worker,
        "workflow": claim.run.workflow,
        "message": decision.consumes,
        "parent_token": claim.run.parent_token,
    }
    parameters |= _then_parameters(decision)
    for n, record in enumerate(decision.records):
        parameters |= _record_parameters(record, n)
    if decision.run is not None:
        parameters |= _run_parameters(decision.run)
    if decision.sends:
        parameters |= tasks_parameters(decision.sends)
    if routed is not None:
        parameters |= {
            "queue": routed.queue,
            "priority": routed.priority,
            "time_limit": routed.time_limit,
            "single": routed.single,
        }
    return parameters


def _then_parameters(decision: Decision) -> dict[str, Any]:
    then = decision.then
    match then:
        case Move():
            parameters = _token_parameters(then.token, then.delay if then.delay > 0 else None)
            plain = is_plain(decision.token) and is_plain(then.token)
            return parameters if plain else parameters | _rare_parameters(then.token)
        case Park():
            parameters = _token_parameters(then.token, then.timeout) | _rare_parameters(then.token)
            return parameters | {"assignees": assignees_text(then.assignees)}
        case Fork():
            moved = _token_parameters(then.token, None) | _rare_parameters(then.token)
            return moved | fork.fork_parameters(then)
        case Leave():
            return fork.leave_parameters(then)
        case End():
            return {}
        case _:
            assert_never(then)


def _token_parameters(token: Token, delay: float | None) -> dict[str, Any]:
    return {
        "node": token.node,
        "unit": token.unit,
        "attempt": token.attempt,
        "crashes": token.crashes,
        "flags": int(token.flags),
        "rollback": token.rollback,
        "failures": failures_text(token.failures),
        "delay": None if delay is None else timedelta(seconds=delay),
    }


def _rare_parameters(token: Token) -> dict[str, Any]:
    wait = token.wait
    return {
        "part": token.part,
        "position": token.position,
        "wait": kind_of(wait),
        "awaits": wait.name if isinstance(wait, ForSignal) else None,
        "child_run_id": wait.run_id if isinstance(wait, ForChild) else None,
        "assignees": None,
        "input": token.input,
        "snapshot": token.snapshot,
        "answer": token.answer,
    }


def _record_parameters(record: JournalRecord, n: int) -> Parameters:
    parameters = {
        f"record_unit_{n}": record.unit,
        f"record_node_{n}": record.node,
        f"outcome_{n}": record.outcome,
        f"undoable_{n}": record.undoable,
        f"record_attempt_{n}": record.attempt,
        f"result_{n}": record.result,
        f"error_{n}": error_text(record.error),
        f"record_failures_{n}": failures_text(record.failures),
        f"started_at_{n}": record.started_at,
    }
    return parameters | {
        f"record_part_{n}": record.part,
        f"record_position_{n}": record.position,
        f"record_input_{n}": record.input,
        f"gathers_{n}": record.gathers,
        f"record_child_{n}": record.child,
    }


def _run_parameters(change: RunChange) -> Parameters:
    return {
        "status": change.status,
        "run_error": error_text(change.error),
        "run_result": change.result,
        "finishes": change.status in FINISHED,
    }
