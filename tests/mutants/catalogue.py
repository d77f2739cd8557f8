"""The mutants of this library, grouped by promise."""

from tests.mutants.approving import APPROVING
from tests.mutants.at_home import AT_HOME
from tests.mutants.brokers import BROKERS
from tests.mutants.bulk import BULK
from tests.mutants.bundles import BUNDLES
from tests.mutants.claims import CLAIMS
from tests.mutants.deploys import DEPLOYS
from tests.mutants.examining import EXAMINING
from tests.mutants.kit import TEST_KIT
from tests.mutants.laptop import LAPTOP
from tests.mutants.lives import LIVES
from tests.mutants.measuring import MEASURING
from tests.mutants.mutant import Mutant
from tests.mutants.nodes import NODES
from tests.mutants.observed import OBSERVED
from tests.mutants.options import OPTIONS
from tests.mutants.order import ORDERS
from tests.mutants.outages import OUTAGES
from tests.mutants.protocol import PROTOCOL
from tests.mutants.pruning import PRUNED
from tests.mutants.reading import READING
from tests.mutants.recovering import RECOVERING
from tests.mutants.sending import SENDING
from tests.mutants.sessions import SESSIONS
from tests.mutants.sql import SQL
from tests.mutants.steering import STEERING
from tests.mutants.tasked import TASKED
from tests.mutants.telling import TELLING
from tests.mutants.unstuck import UNSTUCK
from tests.mutants.values import VALUES
from tests.mutants.waiting import WAITING
from tests.mutants.watching import WATCHING
from tests.mutants.web import WEB
from tests.mutants.wiring import WIRING

ENGINE = "celery_durable.engine.loop"
SETTLE = "celery_durable.engine.commit"
ADMIT = "celery_durable.core.admit"
CLAIM = "celery_durable.engine.claims"
LIVENESS = "celery_durable.background.liveness"
RECOVERY = "celery_durable.background.recovery"
RELAY = "celery_durable.background.relay"
CLIENT = "celery_durable.client"
KNOWLEDGE = "celery_durable.engine.compatibility"
FAILURES = "celery_durable.workflow.failures"
TOKENS = "celery_durable.store.tokens"
COMMITS = "celery_durable.store.commit.statement"
COMMIT_PARAMETERS = "celery_durable.store.commit.parameters"
DEATHS = "celery_durable.store.dead_workers"
ORPHANS = "celery_durable.store.reaping"
STALLED = "celery_durable.store.lost_hints"
JOURNAL = "celery_durable.store.journal"
OUTBOX = "celery_durable.store.outbox"
DUE = "celery_durable.store.due"
RUNS = "celery_durable.store.runs"
DATABASE = "celery_durable.database.connections"

TESTS = "tests/integration"
ATOMIC = f"{TESTS}/test_atomic.py"
LOST = f"{TESTS}/test_nothing_is_lost.py"
ONE = f"{TESTS}/test_one_at_a_time.py"
TAKEOVER = f"{TESTS}/test_takeover.py"
ALIVE = f"{TESTS}/test_liveness.py"
TRANSACTIONAL = f"{TESTS}/test_transactional.py"
JOINED = f"{TESTS}/test_joined_transactions.py"
CANCEL = f"{TESTS}/test_cancel.py"
SMOOTH = f"{TESTS}/test_smooth_commits.py"
COMPENSATION = f"{TESTS}/test_compensation.py"
DEFINITIONS = f"{TESTS}/test_definitions.py"
COST = f"{TESTS}/test_flat_cost.py"
MECHANISMS = f"{TESTS}/test_node_mechanisms.py"
NODES_COST = f"{TESTS}/test_flat_cost_nodes.py"
START_TASK = f"{TESTS}/test_start_task.py"
BAD = f"{TESTS}/test_bad_input.py"
OUTCOME = f"{TESTS}/test_unknown_outcome.py"
RELAYS = f"{TESTS}/test_relay.py"
IDLE = f"{TESTS}/test_idle.py"

ATOMICITY = (
    Mutant(
        name="outbox-row-in-the-commit",
        promise="P1",
        takes_out="the hint of what comes next",
        at=f"{COMMITS}:_commit",
        old='parts.append(insert_hints(hint).cte("hinted"))',
        new="_ = insert_hints(hint)",
        tests=(f"{ATOMIC}::test_a_step_leaves_its_entry_its_move_and_the_next_hint",),
    ),
    Mutant(
        name="journal-entry-in-the-commit",
        promise="P1",
        takes_out="the journal entry of a step",
        at=f"{COMMITS}:_commit",
        old='parts = [_recorded(held, variant).cte("recorded")] if variant.records else []',
        new="parts: list[Any] = []",
        tests=(f"{ATOMIC}::test_a_step_leaves_its_entry_its_move_and_the_next_hint",),
    ),
    Mutant(
        name="outbox-row-of-a-start",
        promise="P1",
        takes_out="the first hint of a run",
        at=f"{RUNS}:_START",
        old="add_cte(_hinted)",
        new="add_cte(_placed)",
        tests=(f"{ATOMIC}::test_a_finished_run_leaves_nothing_but_itself_and_its_journal",),
    ),
    Mutant(
        name="claim-given-back",
        promise="P1",
        takes_out="giving the claim back when the engine itself fails",
        at=f"{ENGINE}:Engine._abandon",
        old="self._claims.abandon(claim, counts=not is_innocent, timed_out=is_late)",
        new="pass",
        tests=(f"{ATOMIC}::test_a_commit_that_fails_in_the_middle_leaves_nothing",),
    ),
)

LOSS = (
    Mutant(
        name="hint-again",
        promise="P2",
        takes_out="sending lost hints again",
        at=f"{RECOVERY}:recover",
        old="lost_hints.hint_again(connection, None, PAGE, timeouts)",
        new="Page(0, None)",
        tests=(f"{LOST}::test_recovery_alone_brings_a_run_to_its_end",),
    ),
    Mutant(
        name="patience-with-hints",
        promise="P2",
        takes_out="waiting longer each time before a hint is taken for lost",
        at=f"{STALLED}:_timeout",
        old='sql.number("first_after") * _doublings',
        new='sql.number("first_after")',
        tests=(f"{LOST}::test_a_hint_that_may_still_come_is_not_sent_again",),
    ),
    Mutant(
        name="hints-that-are-due-already",
        promise="P2",
        takes_out="looking whether the outbox still holds the hint",
        at=f"{STALLED}:_needs_hint",
        old="sa.and_(sa.not_(_is_hinted), _is_consumed)",
        new="_is_consumed",
        tests=(f"{LOST}::test_a_hint_that_may_still_come_is_not_sent_again",),
    ),
    Mutant(
        name="due-check-of-a-claim",
        promise="P2",
        takes_out="looking whether the token is due",
        at=f"{TOKENS}:_is_called",
        old="sa.or_(_is_flagged, t.token.c.wake_at <= sql.clock)",
        new="sa.or_(_is_flagged, sa.true())",
        tests=(
            f"{LOST}::test_a_delayed_start_is_not_early",
            f"{LOST}::test_a_retry_waits_for_its_backoff",
        ),
    ),
    Mutant(
        name="rows-of-one-relay",
        promise="P2",
        takes_out="locking the rows that are being published",
        at=f"{DUE}:_TAKE",
        old=".with_for_update(skip_locked=True)",
        new="",
        tests=(f"{RELAYS}::test_two_relays_at_once_publish_no_row_twice",),
    ),
    Mutant(
        name="refused-rows-are-postponed",
        promise="P2",
        takes_out="trying a refused row later",
        at=f"{RELAY}:Relay._finish",
        old="due.postpone(connection, message.id, why, delay)",
        new="pass",
        tests=(f"{RELAYS}::test_a_row_that_is_refused_is_postponed_and_the_others_go",),
    ),
)

EXCLUSION = (
    Mutant(
        name="fence-in-the-commit",
        promise="P4",
        takes_out="the fence",
        at=f"{COMMITS}:_HELD",
        old='t.token.c.fence == sql.uuid("held_fence"),',
        new='sql.uuid("held_fence").is_not(None),',
        tests=(f"{MECHANISMS}::test_a_commit_under_an_older_fence_is_refused",),
    ),
    Mutant(
        name="fence-in-the-release",
        promise="P4",
        takes_out="the fence of a claim that is given back",
        at=f"{TOKENS}:_released",
        old='t.token.c.fence == sql.uuid("held_fence"),',
        new='sql.uuid("held_fence").is_not(None),',
        tests=(f"{ONE}::test_a_commit_must_name_the_fence_of_the_claim",),
    ),
    Mutant(
        name="claimed-already",
        promise="P4",
        takes_out="looking whether the token is claimed",
        at=f"{TOKENS}:_CLAIM",
        old="t.token.c.claimed_by.is_(None),",
        new="sa.true(),",
        tests=(f"{ONE}::test_a_token_that_is_claimed_is_not_to_be_had",),
    ),
    Mutant(
        name="journal-conflict",
        promise="P3",
        takes_out="telling a unit that is recorded already from a failure",
        at=f"{COMMITS}:commit",
        old="except AlreadyRecorded:\n    return RecordedBefore()",
        new="except AlreadyRecorded:\n    raise",
        tests=(f"{ONE}::test_a_unit_that_is_in_the_journal_is_never_recorded_again",),
    ),
    Mutant(
        name="a-commit-sent-twice",
        promise="P3",
        takes_out="finding the token where the commit left it",
        at=f"{COMMITS}:_HELD",
        old='t.token.c.unit == sql.text("held_unit"),',
        new='sql.text("held_unit").is_not(None),',
        tests=(f"{OUTCOME}::test_a_commit_whose_answer_was_lost_is_not_made_twice[100]",),
    ),
)

TAKING_OVER = (
    Mutant(
        name="worker-lock-probe",
        promise="P5",
        takes_out="trying the lock of a worker",
        at=f"{DEATHS}:_is_unlocked",
        old="else_=sa.func.pg_try_advisory_xact_lock(LOCK_SPACE, t.worker.c.lock_number),",
        new='else_=sql.text("lock_space").is_(None),',
        tests=(f"{TAKEOVER}::test_a_worker_whose_lock_is_free_is_reaped_at_once",),
    ),
    Mutant(
        name="expired-workers",
        promise="P5",
        takes_out="the time after which a worker that does not renew is dead",
        at=f"{RECOVERY}:Reaper._deaths",
        old="*silent, ",
        new="",
        tests=(
            f"{TAKEOVER}::test_a_worker_that_stopped_renewing_is_dead_though_it_holds_its_lock",
        ),
    ),
    Mutant(
        name="watched-by-ones-own-clock",
        promise="P4",
        takes_out="watching a silent worker for as long as its TTL",
        at=f"{RECOVERY}:Reaper._deaths",
        old="if now - at >= one.ttl",
        new="if one.expires_at.timestamp() < __import__('time').time()",
        tests=(f"{TAKEOVER}::test_a_clock_of_the_database_that_is_set_forward_kills_nobody",),
    ),
    Mutant(
        name="unseen-time-does-not-count",
        promise="P4",
        takes_out="leaving out the time in which nobody could look",
        at=f"{RECOVERY}:Reaper._deaths",
        old="unseen = max(0.0, now - self._looked_at - SEEN_AFTER_A_LOOK)",
        new="unseen = 0.0",
        tests=(f"{TAKEOVER}::test_time_in_which_nobody_could_look_kills_nobody",),
    ),
    Mutant(
        name="reapers-wait-for-no-worker",
        promise="P5",
        takes_out="passing over workers whose rows are locked",
        at=f"{DEATHS}:_still_doomed",
        old="skip_locked=True",
        new="skip_locked=False",
        tests=(f"{TAKEOVER}::test_a_reaper_waits_for_no_row_of_a_worker",),
    ),
    Mutant(
        name="server-restart",
        promise="P5",
        takes_out="looking whether the server has restarted since the lock was taken",
        at=f"{DEATHS}:_is_unlocked",
        old="(t.worker.c.server_started_at != SERVER_START, sa.false()),",
        new="",
        tests=(f"{TAKEOVER}::test_a_restart_of_the_server_is_not_taken_for_death",),
    ),
    Mutant(
        name="grace-for-a-lost-lock",
        promise="P5",
        takes_out="looking at a free lock twice",
        at=f"{RECOVERY}:Reaper._deaths",
        old="if now - at >= grace",
        new="if True",
        tests=(f"{TAKEOVER}::test_a_lock_that_is_free_for_a_moment_is_no_death",),
    ),
    Mutant(
        name="lockless-workers-renew",
        promise="P4",
        takes_out="renewing all the time while the lock cannot be taken again",
        at=f"{LIVENESS}:RETAKE_FIRST",
        old="RETAKE_FIRST, RETAKE_MAXIMUM = 0.05, 0.25",
        new="RETAKE_FIRST, RETAKE_MAXIMUM = 0.05, 5.0",
        tests=(f"{ALIVE}::test_a_worker_that_cannot_take_its_lock_again_lives_while_it_renews",),
    ),
    Mutant(
        name="grace-for-many",
        promise="P4",
        takes_out="waiting longer where several nodes lost their locks at once",
        at=f"{RECOVERY}:grace_after",
        old="return GRACE_OF_MANY if len({one.node_id for one in unlocked}) > 1 else GRACE",
        new="return GRACE",
        tests=(f"{TAKEOVER}::test_several_nodes_that_lose_their_locks_at_once_have_longer",),
    ),
    Mutant(
        name="renewed-between-two-looks",
        promise="P4",
        takes_out="telling a worker that has renewed between two looks from one that is dead",
        at=f"{DEATHS}:LifeSign",
        old="expires_at: datetime",
        new="expires_at: datetime = field(compare=False)",
        tests=(f"{TAKEOVER}::test_a_lock_that_is_lost_twice_is_no_death",),
    ),
    Mutant(
        name="renewed-while-declared-dead",
        promise="P4",
        takes_out="looking whether a worker has renewed as it is declared dead",
        at=f"{DEATHS}:_still_doomed",
        old="t.worker.c.expires_at == _doomed.c.expires_at",
        new="t.worker.c.expires_at >= _doomed.c.expires_at",
        tests=(f"{TAKEOVER}::test_a_worker_that_renews_as_it_is_declared_dead_is_not",),
    ),
    Mutant(
        name="crash-count",
        promise="P5",
        takes_out="counting a crash",
        at=f"{ORPHANS}:_reaping",
        old='crashes=t.token.c.crashes + sa.cast(sql.boolean("counts"), sa.Integer),',
        new="crashes=t.token.c.crashes,",
        tests=(f"{TAKEOVER}::test_a_worker_whose_lock_is_free_is_reaped_at_once",),
    ),
    Mutant(
        name="no-crash-while-draining",
        promise="P5",
        takes_out="sparing the units of a worker that was told to stop",
        at=f"{ORPHANS}:ORPHANED",
        old="sa.func.coalesce(sa.not_(t.worker.c.draining), sa.true())",
        new="sa.true()",
        tests=(f"{TAKEOVER}::test_a_worker_that_was_stopping_counts_no_crash",),
    ),
    Mutant(
        name="max-crashes",
        promise="P5",
        takes_out="giving up a unit that kills its workers",
        at=f"{ADMIT}:_concluded",
        old="if token.crashes >= facts.max_crashes:",
        new="if token.crashes < 0:",
        tests=(f"{TAKEOVER}::test_a_unit_that_kills_its_workers_fails_in_the_end[1]",),
    ),
    Mutant(
        name="level-triggered-orphans",
        promise="P5",
        takes_out="freeing what a worker had claimed that somebody else declared dead",
        at=f"{ORPHANS}:_is_gone",
        old="sa.or_(t.worker.c.id.is_(None), t.worker.c.ended_at.is_not(None))",
        new="t.worker.c.id.is_(None)",
        tests=(f"{TAKEOVER}::test_reaping_looks_at_levels_not_at_edges",),
    ),
    Mutant(
        name="orphans-of-absent-workers",
        promise="P5",
        takes_out="freeing what a worker had claimed whose row is gone",
        at=f"{ORPHANS}:_is_gone",
        old="sa.or_(t.worker.c.id.is_(None), t.worker.c.ended_at.is_not(None))",
        new="t.worker.c.ended_at.is_not(None)",
        tests=(f"{TAKEOVER}::test_a_claim_of_a_worker_that_is_in_no_table_is_freed",),
    ),
    Mutant(
        name="ended-workers-claim-nothing",
        promise="P5",
        takes_out="looking whether the claiming worker has ended",
        at=f"{TOKENS}:_CLAIM",
        old="IS_LIVE,",
        new="",
        tests=(f"{ALIVE}::test_a_worker_that_has_ended_can_claim_nothing",),
    ),
    Mutant(
        name="a-new-id-at-once",
        promise="P5",
        takes_out="claiming under a new id when the old one has ended",
        at=f"{CLAIM}:Claims._is_worth_another_try",
        old="if refusal.worker_ended:",
        new="if False:",
        tests=(f"{ALIVE}::test_a_worker_that_finds_itself_ended_follows_the_hint_under_a_new_id",),
    ),
    Mutant(
        name="lost-locks-are-retaken",
        promise="P5",
        takes_out="taking a lost lock again",
        at=f"{LIVENESS}:WorkerLease._retake_and_audit",
        old="self._retake()",
        new="pass",
        tests=(f"{ALIVE}::test_a_lock_lost_while_the_worker_lives_is_taken_again",),
    ),
    Mutant(
        name="self-audit",
        promise="P5",
        takes_out="giving back a claim that is not executed",
        at=f"{LIVENESS}:WorkerLease._audit_unless_calm",
        old="is_skipped or self._audit()",
        new="True",
        tests=(f"{ALIVE}::test_a_claim_that_nobody_executes_is_given_back_by_its_worker",),
    ),
    Mutant(
        name="audits-after-each-message",
        promise="P2",
        takes_out="auditing more often after a message was followed",
        at=f"{LIVENESS}:WorkerLease._audit_unless_calm",
        old="turns != self._turns_seen or ",
        new="",
        tests=(f"{IDLE}::test_a_worker_audits_twice_after_it_has_followed_a_message",),
    ),
    Mutant(
        name="audits-that-could-not-look",
        promise="P2",
        takes_out="auditing again after an audit that was held up",
        at=f"{LIVENESS}:WorkerLease._audit_unless_calm",
        old="calm, self._calm = self._calm + 1, 0",
        new="calm = self._calm = self._calm + 1",
        tests=(f"{IDLE}::test_an_audit_that_could_not_look_is_made_up_for",),
    ),
    Mutant(
        name="audits-wait-for-nobody",
        promise="P4",
        takes_out="giving up an audit that would have to wait for a locked table",
        at=f"{LIVENESS}:WorkerLease._audit",
        old="self._database.transaction(BRIEFLY)",
        new="self._database.autocommit()",
        tests=(
            f"{ALIVE}::test_a_worker_renews_and_keeps_its_lock_whatever_table_is_locked[token]",
        ),
    ),
    Mutant(
        name="audit-spares-what-is-executed",
        promise="P4",
        takes_out="telling an idle claim from one that is executed",
        at=f"{LIVENESS}:WorkerLease._audit",
        old="[one for one in claimed if not self._is_working_on(one.token_id)]",
        new="list(claimed)",
        tests=(f"{ALIVE}::test_a_unit_that_takes_many_renewals_is_not_given_back",),
    ),
)

TRANSACTIONS = (
    Mutant(
        name="handlers-cannot-commit",
        promise="P6",
        takes_out="the savepoint that a handler's session works in",
        at=f"{DATABASE}:Database.session",
        old='join_transaction_mode="create_savepoint"',
        new='join_transaction_mode="control_fully"',
        tests=(f"{TRANSACTIONAL}::test_a_handler_cannot_split_the_transaction[commit]",),
    ),
    Mutant(
        name="one-transaction",
        promise="P6",
        takes_out="recording a transactional step in its own transaction",
        at="celery_durable.engine.transactional:Transactional._commit",
        old="""
committed = self._committer.write(
    connection, attempt, execution, in_transaction=True
)
""",
        new="""
committed = self._retrying.ask(
    lambda other: self._committer.write(other, attempt, execution)
)
""",
        tests=(
            f"{TRANSACTIONAL}::test_a_constraint_that_speaks_at_commit_is_a_failure_of_the_step",
        ),
    ),
    Mutant(
        name="own-sql-is-committed-only-if-recorded",
        promise="P6",
        takes_out="rolling a step's own SQL back when its unit is not recorded",
        at=f"{SETTLE}:Committer.write",
        old="if in_transaction and not decision.keeps:",
        new="if False:",
        tests=(f"{TRANSACTIONAL}::test_a_cancel_during_the_step_leaves_no_row",),
    ),
    Mutant(
        name="the-callers-transaction",
        promise="P7",
        takes_out="joining the transaction that was handed over",
        at="celery_durable.connected:Connected._writing",
        old="if session is not None:",
        new="if False:",
        tests=(
            f"{JOINED}::test_a_start_that_is_rolled_back_leaves_nothing[orm_session]",
            f"{JOINED}::test_a_cancel_joins_too[False-psycopg_connection]",
        ),
    ),
    Mutant(
        name="the-run-that-has-the-key",
        promise="P12",
        takes_out="reading the first run in a second statement",
        at="celery_durable.engine.keys:start_with_key",
        old="holder = runs.holder_of(connection, new.workflow, new.key)",
        new="holder: KeyHolder | None = None",
        tests=(f"{BAD}::test_a_second_start_with_a_key_returns_the_first_run",),
    ),
    Mutant(
        name="one-run-of-a-schedule-at-a-time",
        promise="P3",
        takes_out="waiting for others that start a run of the same schedule",
        at=f"{CLIENT}:Client._start_alone",
        old="runs.wait_for_schedule(connection, new.workflow, schedule)",
        new="",
        tests=(f"{START_TASK}::test_eight_messages_at_once_start_one_run_of_a_schedule",),
    ),
    Mutant(
        name="a-start-waits-for-postgres",
        promise="P2",
        takes_out="giving the message of a start back that Postgres did not take in time",
        at="celery_durable.worker.tasks:register",
        old="raise Reject(str(error), requeue=True) from error",
        new="raise",
        tests=(f"{START_TASK}::test_a_start_whose_time_is_up_goes_back_into_its_queue",),
    ),
    Mutant(
        name="threads-of-ones-own",
        promise="P12",
        takes_out="the threads that blocking calls of async callers run in",
        at="celery_durable.process.threads:Threads.call",
        old="loop.run_in_executor(self._threads(),",
        new="loop.run_in_executor(None,",
        tests=(
            f"{TESTS}/test_async_callers.py::test_no_async_method_uses_a_thread_of_the_application",
        ),
    ),
)

ENDINGS = (
    Mutant(
        name="flags-in-the-commit",
        promise="P3",
        takes_out="seeing the cancel that came while a unit was executed",
        at=f"{COMMITS}:_AS_SEEN",
        old='t.token.c.flags == sql.integer("seen_flags"),',
        new='sql.integer("seen_flags").is_not(None),',
        tests=(f"{CANCEL}::test_a_unit_that_is_executed_ends_and_its_result_is_dropped",),
    ),
    Mutant(
        name="flags-in-a-smooth-commit",
        promise="P3",
        takes_out="seeing that cancel where the run would go on with its next step",
        at=f"{COMMITS}:_CALM",
        old='t.token.c.flags == sa.literal_column("0")',
        new="sa.true()",
        tests=(f"{SMOOTH}::test_it_sees_a_cancel_that_came_meanwhile",),
    ),
    Mutant(
        name="a-step-after-crashes-is-smooth",
        promise="P1",
        takes_out="counting the crashes of a unit from its beginning",
        at=f"{COMMITS}:_MOVED_SMOOTHLY",
        old='"crashes": sa.literal_column("0"),',
        new="",
        tests=(f"{SMOOTH}::test_it_writes_what_the_general_commit_writes[on]",),
    ),
    Mutant(
        name="a-retry-is-not-smooth",
        promise="P9",
        takes_out="keeping the failures of a unit that is tried again",
        at=f"{COMMIT_PARAMETERS}:is_untouched",
        old="and not token.failures",
        new="",
        tests=(f"{SMOOTH}::test_what_has_more_to_write_is_not",),
    ),
    Mutant(
        name="commands-before-executing",
        promise="P3",
        takes_out="applying commands before a unit begins",
        at=f"{ENGINE}:Engine._go_on",
        old="current = self._claims.with_commands_applied(claim)",
        new="current: Claim | None = claim",
        tests=(f"{CANCEL}::test_a_cancel_is_seen_by_a_commit_that_goes_straight_on",),
    ),
    Mutant(
        name="commands-of-a-token-that-waits",
        promise="P2",
        takes_out="applying commands when the token cannot be claimed",
        at=f"{CLAIM}:Claims._is_worth_another_try",
        old="is_worth_it = run_id is not None and apply_commands(self._database, run_id)",
        new="is_worth_it = False",
        tests=(f"{CANCEL}::test_a_cancel_in_the_callers_transaction_is_applied_by_the_hint",),
    ),
    Mutant(
        name="undo-order",
        promise="P8",
        takes_out="undoing the newest first",
        at=f"{JOURNAL}:_UNDO",
        old=".order_by(t.journal.c.seq.desc())",
        new=".order_by(t.journal.c.seq)",
        tests=(f"{COMPENSATION}::test_what_completed_is_undone_in_reverse_order",),
    ),
    Mutant(
        name="undo-goes-on-from-where-it-stands",
        promise="P8",
        takes_out="passing over what has been undone already",
        at=f"{JOURNAL}:next_undo",
        old="after = compensated_by(token.unit) if token.rollback else None",
        new="after = None",
        tests=(f"{COMPENSATION}::test_what_completed_is_undone_in_reverse_order",),
    ),
)

AT_THE_DOOR = (
    Mutant(
        name="unknown-workflows-are-put-back",
        promise="P10",
        takes_out="giving back a run whose workflow is not known here",
        at=f"{ENGINE}:Engine._go_on",
        old="self._claims.release(current, admission.delay)",
        new="pass",
        tests=(
            f"{DEFINITIONS}::test_a_worker_that_does_not_know_the_workflow_leaves_its_runs_alone",
        ),
    ),
    Mutant(
        name="changed-definitions",
        promise="P10",
        takes_out="looking whether everything before a run's node is as it was",
        at=f"{KNOWLEDGE}:Compatibility._can_go_on",
        old="return is_fit or self._came_by_this_plan(workflow, token)",
        new="return True",
        tests=(
            f"{DEFINITIONS}::test_a_run_that_cannot_find_its_way_is_left_alone_with_one_warning",
        ),
    ),
    Mutant(
        name="undo-is-looked-up-when-needed",
        promise="P11",
        takes_out="leaving the journal alone while all goes well",
        at=f"{SETTLE}:Committer._decision",
        old="if isinstance(decided, RollBack):",
        new="if (journal.next_undo(connection, claim.token) or True) and "
        "isinstance(decided, RollBack):",
        tests=(
            f"{COST}::test_statements_and_rows_per_step_do_not_grow_with_the_journal[100]",
            f"{NODES_COST}::test_an_iteration_costs_the_same_however_many_there_were[100]",
        ),
    ),
    Mutant(
        name="results-that-cannot-be-stored",
        promise="P12",
        takes_out="failing a step without a second try when its result is not JSON",
        at=f"{FAILURES}:failure_of",
        old="case GiveUp() | PayloadError():",
        new="case GiveUp():",
        tests=(f"{BAD}::test_a_result_without_json_fails_the_step_without_a_second_try",),
    ),
)

MUTANTS: tuple[Mutant, ...] = (
    # First what waits longest: for relays that look seldom, and brokers that do not answer.
    *ORDERS,
    *BROKERS,
    *ATOMICITY,
    *LOSS,
    *EXCLUSION,
    *CLAIMS,
    *TAKING_OVER,
    *TRANSACTIONS,
    *ENDINGS,
    *AT_THE_DOOR,
    *NODES,
    *DEPLOYS,
    *RECOVERING,
    *PRUNED,
    *OUTAGES,
    *LIVES,
    *UNSTUCK,
    *VALUES,
    *OPTIONS,
    *TASKED,
    *PROTOCOL,
    *READING,
    *MEASURING,
    *WATCHING,
    *BUNDLES,
    *WIRING,
    *SESSIONS,
    *TELLING,
    *SENDING,
    *WAITING,
    *STEERING,
    *BULK,
    *EXAMINING,
    *TEST_KIT,
    *AT_HOME,
    *APPROVING,
    *LAPTOP,
    *OBSERVED,
    *SQL,
    *WEB,
)
