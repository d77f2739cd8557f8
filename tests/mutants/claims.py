"""The mutants of claims: taking one, committing, giving it back, and what others do meanwhile."""

from tests.mutants.mutant import Mutant

ENGINE = "celery_durable.engine.loop"
SETTLE = "celery_durable.engine.commit"
ADMIT = "celery_durable.core.admit"
CLAIM = "celery_durable.engine.claims"
CLIENT = "celery_durable.client"
TOKENS = "celery_durable.store.tokens"
COMMITS = "celery_durable.store.commit.statement"
GATES = "celery_durable.store.commit.fork"
SIGNALS = "celery_durable.store.signals"
ANNOUNCING = "celery_durable.store.cancelling.announcing"
BRANCHES = "celery_durable.store.cancelling.branches"

TESTS = "tests/integration"
PROTOCOL = f"{TESTS}/test_protocol.py"
ONE = f"{TESTS}/test_one_at_a_time.py"
OUTCOME = f"{TESTS}/test_unknown_outcome.py"
MECHANISMS = f"{TESTS}/test_node_mechanisms.py"
PARALLEL = f"{TESTS}/test_parallel.py"
FAILURES = f"{TESTS}/test_parallel_failures.py"
SIGNALLED = f"{TESTS}/test_signals.py"
WAKEUPS = f"{TESTS}/test_wakeups.py"
CANCEL = f"{TESTS}/test_cancel.py"
AT_ONCE = f"{TESTS}/test_cancel_at_once.py"
LOCKS = f"{TESTS}/test_cancel_locks.py"
JOINED = f"{TESTS}/test_joined_transactions.py"
TAKEOVER = f"{TESTS}/test_takeover.py"
TIMEOUTS = f"{TESTS}/test_step_timeouts.py"
LIFE = f"{TESTS}/test_worker_life.py"

CLAIMING = (
    Mutant(
        name="a-claim-waits-for-no-disk",
        promise="P1",
        takes_out="not waiting for the disk with a claim",
        at=f"{TOKENS}:_CLAIM",
        old="IS_QUIET,",
        new="",
        tests=(f"{PROTOCOL}::test_only_the_claim_is_not_waited_for_on_disk",),
    ),
    Mutant(
        name="each-claim-has-its-own-fence",
        promise="P4",
        takes_out="a nonce that no other claim has",
        at=f"{CLAIM}:Claims.claim",
        old="uuid4()",
        new="UUID(int=1)",
        tests=(f"{ONE}::test_fifty_deliveries_at_once_on_two_workers_execute_a_unit_once",),
    ),
    Mutant(
        name="a-claim-writes-its-fence",
        promise="P4",
        takes_out="writing the fence of a claim into the token",
        at=f"{TOKENS}:CLAIMED_BY_ME",
        old='"fence": sql.uuid("new_fence"),',
        new="",
        tests=(f"{ONE}::test_a_claim_writes_a_fresh_fence",),
    ),
    Mutant(
        name="consumed-signals-wake-nobody",
        promise="P9",
        takes_out="telling a signal that waits from one that was consumed",
        at=f"{TOKENS}:_is_there",
        old="t.inbox.c.consumed_by.is_(None),",
        new="",
        tests=(f"{MECHANISMS}::test_a_signal_that_was_consumed_lets_nobody_go_on",),
    ),
    Mutant(
        name="signals-wake-their-own-run",
        promise="P9",
        takes_out="telling the signals of one run from those of another",
        at=f"{TOKENS}:_is_there",
        old="t.inbox.c.run_id == t.token.c.run_id,",
        new="",
        tests=(f"{MECHANISMS}::test_a_signal_lets_no_other_run_go_on",),
    ),
    Mutant(
        name="a-claim-sees-commands",
        promise="P3",
        takes_out="looking for commands in the statement that claims",
        at=f"{TOKENS}:CLAIM",
        old='sql.has_commands(t.token.c.run_id).label("has_commands")',
        new='sa.false().label("has_commands")',
        tests=(f"{JOINED}::test_a_cancel_joins_too[True-psycopg_connection]",),
    ),
    Mutant(
        name="a-claim-has-a-deadline",
        promise="P5",
        takes_out="the time until which a unit may be executed",
        at=f"{TOKENS}:_CLAIM",
        old="sa.case((t.token.c.wait.is_(None), _deadline))",
        new="sa.null()",
        tests=(f"{TIMEOUTS}::test_the_claim_sets_the_deadline",),
    ),
    Mutant(
        name="a-claim-under-way-is-worked-on",
        promise="P4",
        takes_out="saying before the claim that its token is worked on",
        at=f"{ENGINE}:Engine.advance",
        old="""
with self._kept_from_audit([token_id]), self.suspects.arriving(message):
    claim = self._claims.claim(token_id, hinted_by)
""",
        new="""
claim = self._claims.claim(token_id, hinted_by)
with self._kept_from_audit([token_id]), self.suspects.arriving(message):
""",
        tests=(f"{PROTOCOL}::test_a_claim_whose_answer_is_on_its_way_is_not_given_back",),
    ),
)

COMMITTING = (
    Mutant(
        name="the-fence-of-a-token-that-ends",
        promise="P4",
        takes_out="the fence in the commit that deletes its token",
        at=f"{COMMITS}:_held",
        old="sa.delete(t.token).where(*held_if)",
        new='sa.delete(t.token).where(t.token.c.id == sql.uuid("token_id"))',
        tests=(f"{MECHANISMS}::test_a_commit_under_an_older_fence_is_refused",),
    ),
    Mutant(
        name="a-result-that-is-dropped-is-logged",
        promise="P4",
        takes_out="saying that a result was dropped",
        at=f"{SETTLE}:Committer._drop",
        old="""
logger.info(
    "Result of %s of run %s dropped: the claim was lost (fenced or cancelled)",
    claim.token.unit,
    claim.run.id,
)
""",
        new="pass",
        tests=(f"{PROTOCOL}::test_a_result_that_comes_too_late_is_dropped_in_one_line",),
    ),
    Mutant(
        name="anothers-fence-is-no-commit-of-ours",
        promise="P4",
        takes_out="telling another's claim from a commit of one's own",
        at=f"{COMMITS}:_why_not",
        old="if standing is None or standing.fence != claim.fence:",
        new="if standing is None:",
        tests=(f"{PROTOCOL}::test_a_result_that_comes_too_late_is_dropped_in_one_line",),
    ),
    Mutant(
        name="moved-on-under-ones-own-fence",
        promise="P3",
        takes_out="knowing one's own commit by where the token stands",
        at=f"{COMMITS}:_why_not",
        old="if not standing.is_where(decision.token):",
        new="if False:",
        tests=(f"{WAKEUPS}::test_a_signal_that_came_before_a_park_whose_answer_was_lost_is_found",),
    ),
    Mutant(
        name="a-flag-is-decided-on",
        promise="P3",
        takes_out="deciding again with a flag in view that went up meanwhile",
        at=f"{SETTLE}:Committer.write",
        old="attempt = attempt.with_flags(flags)",
        new="return Committed(decision, routed, ClaimLost())",
        tests=(f"{CANCEL}::test_a_unit_that_is_executed_ends_and_its_result_is_dropped",),
    ),
    Mutant(
        name="as-often-as-a-flag-goes-up",
        promise="P3",
        takes_out="deciding again more than once",
        at=f"{SETTLE}:Committer.write",
        old="while True:",
        new="for _ in range(2):",
        tests=(f"{CANCEL}::test_another_cancel_while_it_is_decided_again_is_seen_too",),
    ),
    Mutant(
        name="a-cancel-touches-no-fence",
        promise="P4",
        takes_out="leaving the fence as it is when a flag goes up",
        at=f"{ANNOUNCING}:_raised",
        old="look_at=LOOK_AT",
        new="look_at=LOOK_AT, fence=sa.func.gen_random_uuid()",
        tests=(f"{CANCEL}::test_with_compensation_its_result_counts_and_everything_is_undone",),
    ),
    Mutant(
        name="a-cancel-touches-no-branchs-fence",
        promise="P4",
        takes_out="leaving the fence of a branch in hand as it is",
        at=f"{BRANCHES}:_others",
        old="look_at=LOOK_AT",
        new="look_at=LOOK_AT, fence=sa.func.gen_random_uuid()",
        tests=(f"{FAILURES}::test_a_cancel_drops_what_has_not_begun_and_waits_for_what_has",),
    ),
    Mutant(
        name="a-conflict-aborts-the-commit",
        promise="P3",
        takes_out="aborting a commit whose unit stands in the journal",
        at=f"{COMMITS}:_recorded",
        old="""
sa.insert(t.journal).from_select(
    list(columns[0]), rows[0] if len(rows) == 1 else sa.union_all(*rows)
)
""",
        new="""
sa.insert(t.journal).from_select(
    list(columns[0]),
    rows[0].where(
        sa.not_(
            sql.there_is(
                t.journal.c.run_id == held.c.run_id,
                t.journal.c.unit == sql.text("record_unit_0"),
            )
        )
    ),
)
""",
        tests=(f"{ONE}::test_a_unit_that_is_in_the_journal_is_never_recorded_again[b]",),
    ),
    Mutant(
        name="a-conflict-aborts-a-smooth-commit",
        promise="P3",
        takes_out="aborting a smooth commit whose unit stands in the journal",
        at=f"{COMMITS}:_recorded",
        old="list(row), sa.select(*row.values()).select_from(held)",
        new="""
list(row),
sa.select(*row.values())
.select_from(held)
.where(
    sa.not_(
        sql.there_is(
            t.journal.c.run_id == held.c.run_id, t.journal.c.unit == sql.text("held_unit")
        )
    )
)
""",
        tests=(f"{ONE}::test_a_unit_that_is_in_the_journal_is_never_recorded_again[a]",),
    ),
    Mutant(
        name="a-gate-is-read-as-it-was-written",
        promise="P2",
        takes_out="reading the gate in the row that the branch has written",
        at=f"{GATES}:_parent_hinted",
        old='joined.c.remaining == sa.literal_column("0")',
        new="""
(
    sa.select(t.token.c.remaining)
    .where(t.token.c.id == joined.c.id)
    .scalar_subquery()
    == sa.literal_column("1")
)
""",
        tests=(
            f"{MECHANISMS}::test_of_two_branches_that_leave_at_once_the_later_tells_the_parent",
        ),
    ),
    Mutant(
        name="a-commit-sees-commands",
        promise="P3",
        takes_out="looking for commands in the commit that goes straight on",
        at=f"{SETTLE}:_moved",
        old="has_commands=written.has_commands",
        new="has_commands=False",
        tests=(f"{CANCEL}::test_a_cancel_is_seen_by_a_commit_that_goes_straight_on",),
    ),
)

GIVING_BACK = (
    Mutant(
        name="a-fork-leaves-hints",
        promise="P2",
        takes_out="the hints of new branches",
        at=f"{GATES}:fork_parts",
        old="return [hinted, stored]",
        new="""
_ = hinted
return [opened, stored]
""",
        tests=(f"{PARALLEL}::test_each_branch_has_a_token_and_a_message_of_its_own",),
    ),
    Mutant(
        name="given-back-when-nothing-is-there",
        promise="P2",
        takes_out="giving the claim back when another took the signal before it was looked for",
        at=f"{ENGINE}:Engine._check",
        old="""
self._claims.release(attempt.claim)
return None
""",
        new="return None",
        tests=(
            f"{MECHANISMS}::test_a_signal_that_another_was_quicker_to_take_is_waited_for_again",
        ),
    ),
    Mutant(
        name="given-back-when-the-signal-is-gone",
        promise="P9",
        takes_out="looking again when another took the signal before the commit",
        at=f"{SETTLE}:Committer._drop",
        old="case SignalGone(): self._claims.release(claim)",
        new="""
case SignalGone():
    pass
""",
        tests=(f"{WAKEUPS}::test_two_that_consume_at_the_same_time_tell_the_others_that_wait",),
    ),
    Mutant(
        name="given-back-when-a-child-is-refused",
        promise="P2",
        takes_out="giving the claim back when no child may be started any more",
        at=f"{SETTLE}:Committer.commit",
        old="self._claims.release(attempt.claim, RELEASE_FIRST)",
        new="pass",
        tests=(f"{AT_ONCE}::test_no_child_is_started_in_a_tree_that_is_cancelled",),
    ),
    Mutant(
        name="let-go-after-a-lost-answer",
        promise="P2",
        takes_out="letting go of a token that has moved on under one's own fence",
        at=f"{SETTLE}:Committer.continue_with",
        old="self._claims.abandon(claim)",
        new="pass",
        tests=(f"{OUTCOME}::test_a_commit_whose_answer_was_lost_is_not_made_twice[100]",),
    ),
    Mutant(
        name="given-back-while-another-suspect-runs",
        promise="P2",
        takes_out="giving a suspect back while another is at work",
        at=f"{ENGINE}:Engine._go_on",
        old="self._claims.release(current, admission.delay)",
        new="if not has_company: self._claims.release(current, admission.delay)",
        tests=(
            f"{LIFE}::test_units_that_may_have_killed_their_process_run_one_at_a_time_in_another",
        ),
    ),
    Mutant(
        name="given-back-by-a-worker-that-stops",
        promise="P2",
        takes_out="giving back what a worker has claimed that stops",
        at=f"{ENGINE}:Engine._go_on",
        old="self._claims.release(current, admission.delay)",
        new="if not current.draining: self._claims.release(current, admission.delay)",
        tests=(f"{TAKEOVER}::test_a_worker_that_was_told_to_stop_begins_nothing",),
    ),
)

ASKING = (
    Mutant(
        name="a-cancel-is-in-the-inbox",
        promise="P2",
        takes_out="the row of a cancel",
        at=f"{CLIENT}:Client.cancel",
        old="inbox.send(connection, run_id, command)",
        new="_ = command",
        tests=(f"{CANCEL}::test_a_cancel_in_the_callers_transaction_is_applied_by_the_hint",),
    ),
    Mutant(
        name="a-cancel-leaves-a-hint",
        promise="P2",
        takes_out="the hint of a cancel",
        at=f"{CLIENT}:Client.cancel",
        old="inbox.put_hint(connection, run_id)",
        new="pass",
        tests=(f"{CANCEL}::test_a_cancel_in_the_callers_transaction_is_applied_by_the_hint",),
    ),
    Mutant(
        name="a-client-applies-its-cancel",
        promise="P2",
        takes_out="applying a cancel outside of a caller's transaction at once",
        at=f"{CLIENT}:Client.cancel",
        old="recovery.apply_unless_locked(self.database, run_id)",
        new="pass",
        tests=(
            f"{AT_ONCE}::test_what_nobody_executes_ends_at_once_though_nobody_consumes_its_queue",
        ),
    ),
    Mutant(
        name="a-cancel-locks-no-token",
        promise="P7",
        takes_out="leaving tokens unlocked when a cancel is sent",
        at="celery_durable.store.inbox:_first",
        old='.cte("first")',
        new='.with_for_update().cte("first")',
        tests=(f"{PROTOCOL}::test_neither_a_signal_nor_a_cancel_that_is_joined_waits_for_a_token",),
    ),
    Mutant(
        name="a-signal-is-in-the-inbox",
        promise="P9",
        takes_out="the row of a signal",
        at=f"{SIGNALS}:_stored",
        old="sa.select(*_new.values())",
        new="sa.select(*_new.values()).limit(0)",
        tests=(
            f"{SIGNALLED}::test_a_signal_is_consumed_whether_it_comes_before_or_while_the_run_waits",
        ),
    ),
    Mutant(
        name="a-signal-leaves-hints",
        promise="P9",
        takes_out="the hints of a signal",
        at=f"{SIGNALS}:_SEND",
        old='.add_cte(put_hints(_to_hint, at=AT_ONCE).cte("hinted"))',
        new="",
        tests=(
            f"{SIGNALLED}::test_a_signal_is_consumed_whether_it_comes_before_or_while_the_run_waits",
        ),
    ),
    Mutant(
        name="a-childs-end-locks-no-parent",
        promise="P2",
        takes_out="leaving the parent unlocked as a child ends",
        at=f"{COMMITS}:_parent_hinted",
        old='.cte("parent")',
        new='.with_for_update().cte("parent")',
        tests=(f"{LOCKS}::test_a_child_that_ends_waits_for_no_parent",),
    ),
    Mutant(
        name="a-branch-before-its-parent",
        promise="P2",
        takes_out="the order in which a branch that leaves takes locks",
        at=f"{COMMITS}:_held",
        old="if variant.then in (End, Leave):",
        new="""
if variant.then is Leave:
    mine, parent = t.token.alias("mine"), t.token.alias("parent")
    its = sa.select(mine.c.parent_id).where(mine.c.id == sql.uuid("token_id")).scalar_subquery()
    first = sa.select(parent.c.id).where(parent.c.id == its).with_for_update()
    held_if = (*held_if, t.token.c.parent_id == first.scalar_subquery())
if variant.then in (End, Leave):
""",
        tests=(f"{LOCKS}::test_a_branch_that_leaves_takes_its_parent_last",),
    ),
)

CLAIMS: tuple[Mutant, ...] = (*CLAIMING, *COMMITTING, *GIVING_BACK, *ASKING)
