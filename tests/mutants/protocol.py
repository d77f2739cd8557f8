"""Mutants of sentences of the protocol that `tests/integration/test_protocol.py` proves."""

from tests.mutants.mutant import Mutant


def proves(test: str) -> str:
    """The node id of a test of the protocol."""
    return f"tests/integration/test_protocol.py::{test}"


PROTOCOL = (
    Mutant(
        name="a-claim-for-itself-alone",
        promise="P1",
        takes_out="ending with the claim that commits are not waited for",
        at="celery_durable.store.tokens:QUIET",
        old="sa.true()",
        new="sa.false()",
        tests=(proves("test_only_the_claim_is_not_waited_for_on_disk"),),
    ),
    Mutant(
        name="an-announced-cancel-opens-nothing",
        promise="P3",
        takes_out="opening no item of a window once a cancel is announced",
        at="celery_durable.store.commit.fork:_joined",
        old='sa.and_(has_room, p.flags == sa.literal_column("0"))',
        new="has_room",
        tests=(proves("test_a_cancel_that_is_announced_opens_no_item"),),
    ),
    Mutant(
        name="hints-for-what-is-in-hand",
        promise="P9",
        takes_out="a signal's hint for a branch that is executing",
        at="celery_durable.store.signals:_in_hand",
        old="t.token.c.claimed_by.is_not(None)",
        new="sa.false()",
        tests=(proves("test_a_signal_that_commits_late_wakes_the_branch_that_was_executing"),),
    ),
    Mutant(
        name="a-signal-locks-no-token",
        promise="P7",
        takes_out="leaving tokens unlocked when a signal comes",
        at="celery_durable.store.signals:_waiting",
        old=".limit(sa.literal_column(str(HINTED_WAITERS)))",
        new=".limit(sa.literal_column(str(HINTED_WAITERS))).with_for_update()",
        tests=(proves("test_neither_a_signal_nor_a_cancel_that_is_joined_waits_for_a_token"),),
    ),
    Mutant(
        name="the-lock-before-the-row",
        promise="P4",
        takes_out="taking the worker's lock before its row is written",
        at="celery_durable.store.workers:_TAKE_LOCK",
        old='sa.func.pg_try_advisory_lock(LOCK_SPACE, sql.integer("number"))',
        new='sa.and_(LOCK_SPACE.is_not(None), sql.integer("number") > 0)',
        tests=(proves("test_a_worker_has_its_lock_before_it_has_a_row"),),
    ),
    Mutant(
        name="a-lock-is-tried-once-more",
        promise="P4",
        takes_out="trying the lock of a worker again as it is declared dead",
        at="celery_durable.store.dead_workers:_still_doomed",
        old="else_=_is_unlocked",
        new="else_=sa.true()",
        tests=(proves("test_a_lock_that_was_taken_again_is_seen_as_its_worker_is_declared_dead"),),
    ),
    Mutant(
        name="a-lock-is-of-its-server",
        promise="P5",
        takes_out="saying on which start of the server a lock is held",
        at="celery_durable.store.workers:_LOCK_IS_HERE",
        old="server_started_at=SERVER_START",
        new="draining=t.worker.c.draining",
        tests=(proves("test_a_lock_that_was_taken_again_is_one_of_the_server_that_runs"),),
    ),
    Mutant(
        name="two-audits",
        promise="P4",
        takes_out="looking a second time before an idle claim is given back",
        at="celery_durable.background.liveness:WorkerLease._audit",
        old="one.fence in seen_before",
        new="True",
        tests=(proves("test_a_claim_is_given_back_only_when_two_audits_have_seen_it_idle"),),
    ),
    Mutant(
        name="a-release-leaves-a-hint",
        promise="P2",
        takes_out="the hint of a claim that is given back",
        at="celery_durable.store.tokens:_RELEASE",
        old='.add_cte(put_hints(_released, at=sql.later("delay")).cte("hinted"))',
        new="",
        tests=(proves("test_a_claim_that_is_given_back_or_taken_away_leaves_a_hint"),),
    ),
    Mutant(
        name="freeing-leaves-a-hint",
        promise="P2",
        takes_out="the hint of a claim that is taken away from the dead",
        at="celery_durable.store.reaping:_reaping",
        old='.add_cte(put_hints(reaped).cte("hinted"))',
        new="",
        tests=(proves("test_a_claim_that_is_given_back_or_taken_away_leaves_a_hint"),),
    ),
    Mutant(
        name="what-is-cancelled-does-not-run-again",
        promise="P3",
        takes_out="looking at the flags of a unit whose worker died",
        at="celery_durable.core.admit:_concluded",
        old="if token.flags is not Flags.NONE:",
        new="if False:",
        tests=(proves("test_a_cancelled_unit_is_not_executed_again_when_its_worker_died"),),
    ),
    Mutant(
        name="a-hung-relay-is-cut-off",
        promise="P2",
        takes_out="the bound on how long a relay keeps its rows",
        at="celery_durable.store.due:_TAKE",
        old="sa.select(_bounded.c.value).scalar_subquery()",
        new="sa.literal_column(f\"'{HANG_TIMEOUT}'\")",
        tests=(proves("test_a_relay_that_hangs_does_not_hide_its_rows_for_long"),),
    ),
)
