"""What holds of every decision, whatever it is about."""

from celery_durable.core import units
from celery_durable.core.decision import (
    Decision,
    End,
    Fork,
    JournalRecord,
    Leave,
    Move,
    Outcome,
    Park,
)
from celery_durable.core.event import Event, Signalled
from celery_durable.core.names import RETURNS, ROLLBACK
from celery_durable.core.plan import Plan
from celery_durable.core.status import FINISHED, TRANSITIONS, Status
from celery_durable.core.token import Flags, ForBranches, ForChild, ForTimer, Token
from tests.model.token_changes import CHANGES, change_of


def check_law(plan: Plan, token: Token, event: Event, decision: Decision) -> None:
    """Fail with the part of the law that `decision` breaks."""
    assert decision.token == token, "the commit would not find the token as it is"
    before, after = change_of(decision)
    assert after in CHANGES[before], f"from {before} to {after}"
    _check_records(token, decision)
    _check_run(token, decision)
    _check_cancel(token, event, decision)
    match decision.then:
        case Move():
            _check_move(plan, token, decision, decision.then)
        case Park():
            _check_park(plan, decision, decision.then)
        case Fork():
            _check_fork(token, decision, decision.then)
        case Leave():
            assert token.parent is not None, "only a branch leaves"
            assert decision.run is None, "a branch changes no run"
            assert not decision.then.stops or decision.then.failed, "only a failure stops others"
            assert decision.then.chunk >= 1
        case End():
            assert token.parent is None, "a branch ends no run"
            assert decision.run is not None, "the run is stranded"
            assert decision.run.status in FINISHED, "the run is stranded"


def _check_records(token: Token, decision: Decision) -> None:
    recorded = [record.unit for record in decision.records]
    assert len(recorded) == len(set(recorded)), f"recorded twice: {recorded}"
    assert set(recorded) <= {token.unit, token.node}, "another unit is recorded"
    for record in decision.records:
        _check_record(token, record)
    going_on = decision.then.token if isinstance(decision.then, Move | Park | Fork) else None
    if going_on is not None:
        assert going_on.unit not in recorded, "what is recorded is to run again"


def _check_record(token: Token, record: JournalRecord) -> None:
    assert record.node == token.node
    is_completed = record.outcome is Outcome.COMPLETED
    assert (record.error is not None) is (record.outcome is Outcome.FAILED)
    assert record.result is None or is_completed, "a result of what did not complete"
    assert record.result is None or record.gathers is None, "two results"
    if is_completed:
        assert (record.result is None) is (record.gathers is not None), "completed without a result"
    assert not record.undoable or (is_completed and token.rollback is None)
    assert record.unit != RETURNS or not is_completed, "what returns made belongs to the run"
    assert record.unit != ROLLBACK


def _check_run(token: Token, decision: Decision) -> None:
    run = decision.run
    if run is None:
        return
    before = Status.RUNNING if token.rollback is None else Status.COMPENSATING
    assert run.status is before or run.status in TRANSITIONS[before], (before, run.status)
    assert run.result is None or run.status is Status.COMPLETED
    if run.status is Status.COMPLETED:
        assert run.error is None
        assert token.rollback is None, "completed on the way back"
    if run.status is Status.CANCELLED:
        assert run.error is None, "a cancelled run has no error"
        assert Flags.CANCEL in token.flags or token.rollback is Status.CANCELLED, "nobody asked"
    if run.status is Status.FAILED and token.rollback is None:
        assert run.error is not None, "a failed run has an error"
    if run.status is Status.FAILED and token.rollback is Status.CANCELLED:
        assert run.error is not None, "it had none until now"


def _check_cancel(token: Token, event: Event, decision: Decision) -> None:
    if decision.consumes is not None:
        assert isinstance(event, Signalled), "a signal that nobody has seen is consumed"
    if Flags.CANCEL not in token.flags or token.rollback is not None:
        return
    then = decision.then
    assert isinstance(then, End | Leave | Move), "under a cancel nothing begins to wait"
    assert decision.consumes is None, "a signal is consumed by a run that ends"
    assert decision.run is None or decision.run.status is not Status.COMPLETED
    if isinstance(then, Move):
        assert Flags.COMPENSATE in token.flags, "compensated, and nobody asked"
        assert then.token.rollback is Status.CANCELLED


def _check_moved(token: Token, moved: Token) -> None:
    assert (moved.id, moved.run_id, moved.parent) == (token.id, token.run_id, token.parent)
    assert moved.flags is Flags.NONE, "a flag is lowered by what is decided with it in view"
    assert moved.attempt >= 1
    if token.rollback is not None:
        assert moved.rollback in (token.rollback, Status.FAILED), "the way back has no return"


def _check_move(plan: Plan, token: Token, decision: Decision, then: Move) -> None:
    moved = then.token
    _check_moved(token, moved)
    assert moved.wait is None, "it moves and waits"
    assert then.delay >= 0
    assert then.routing == units.unit_of(plan, moved).routing
    assert moved.node in (*plan.names, RETURNS, ROLLBACK)
    assert moved.attempt <= max(units.unit_of(plan, moved).retry.max_attempts, token.attempt)
    turns = token.rollback is None and moved.rollback is not None
    starts_back = decision.run is not None and decision.run.status is Status.COMPENSATING
    assert not turns or starts_back, "it turns back and nobody knows"
    assert not starts_back or moved.rollback is not None, "nobody turns back"
    assert not (turns and token.parent), "a branch turned back"
    if moved.unit != token.unit:
        kept = (moved.attempt, moved.crashes, moved.failures, moved.snapshot, moved.answer)
        assert kept == (1, 0, (), None, None), "what belonged to another unit"


def _check_park(plan: Plan, decision: Decision, then: Park) -> None:
    _check_moved(decision.token, then.token)
    wait = then.token.wait
    assert wait is not None, "parked for nothing"
    assert not isinstance(wait, ForBranches), "only a fork waits for branches"
    assert then.timeout is None or then.timeout >= 0
    assert not isinstance(wait, ForTimer) or then.timeout is not None, "sleeps for ever"
    assert not isinstance(wait, ForChild) or then.timeout is None, "a child has no timeout"
    assert not isinstance(wait, ForTimer) or decision.token.rollback is None
    assert (then.token.unit, then.token.attempt) == (decision.token.unit, decision.token.attempt)
    assert then.routing == units.unit_of(plan, then.token).routing
    assert (decision.records, decision.run, decision.consumes) == ((), None, None)


def _check_fork(token: Token, decision: Decision, then: Fork) -> None:
    _check_moved(token, then.token)
    count = len(then.branches)
    assert token.parent is None, "a branch forked"
    assert then.token.wait == ForBranches(count, total=count)
    assert 1 <= then.window <= count
    assert then.chunk >= 1
    assert [branch.position for branch in then.branches] == list(range(count))
    assert len({branch.unit for branch in then.branches}) == count
    assert (decision.records, decision.run, decision.consumes) == ((), None, None)
