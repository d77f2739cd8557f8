"""The mutants of what nodes are made of: forks and gates, waits, signals, children."""

from tests.mutants.mutant import Mutant

PROGRESS = "celery_durable.core.progress"
WAITS = "celery_durable.core.waits"
SETTLE = "celery_durable.engine.commit"
TOKENS = "celery_durable.store.tokens"
COMMITS = "celery_durable.store.commit.statement"
GATES = "celery_durable.store.commit.fork"
ANNOUNCING = "celery_durable.store.cancelling.announcing"
BRANCHES = "celery_durable.store.cancelling.branches"
ORPHANS = "celery_durable.store.reaping"
ENGINE = "celery_durable.engine.loop"
ADMIT = "celery_durable.core.admit"

TESTS = "tests/integration"
PARALLEL = f"{TESTS}/test_parallel.py"
FAILURES = f"{TESTS}/test_parallel_failures.py"
MAP_FAILURES = f"{TESTS}/test_map_failures.py"
WINDOW = f"{TESTS}/test_map_window.py"
ROUTE = f"{TESTS}/test_route.py"
LOOP = f"{TESTS}/test_loop.py"
SLEEP = f"{TESTS}/test_sleep.py"
SIGNALS = f"{TESTS}/test_signals.py"
SUSPEND = f"{TESTS}/test_suspend.py"
TIMEOUTS = f"{TESTS}/test_step_timeouts.py"
LOCKS = f"{TESTS}/test_cancel_locks.py"
MECHANISMS = f"{TESTS}/test_node_mechanisms.py"
AT_ONCE = f"{TESTS}/test_cancel_at_once.py"
IDLE = f"{TESTS}/test_idle.py"
TAKEOVER = f"{TESTS}/test_takeover.py"
TREE = f"{TESTS}/test_cancel_tree.py"
LETTING_GO = f"{TESTS}/test_letting_go.py"

FORKS = (
    Mutant(
        name="gate-counts-down",
        promise="P2",
        takes_out="counting a branch that leaves",
        at=f"{GATES}:_joined",
        old="remaining=after,",
        new="remaining=p.remaining,",
        tests=(f"{PARALLEL}::test_the_last_branch_through_the_gate_moves_the_parent_on",),
    ),
    Mutant(
        name="hint-of-the-last-branch",
        promise="P2",
        takes_out="the parent's hint as the last branch leaves",
        at=f"{GATES}:_parent_hinted",
        old='joined.c.remaining == sa.literal_column("0")',
        new="sa.false()",
        tests=(f"{PARALLEL}::test_the_last_branch_through_the_gate_moves_the_parent_on",),
    ),
    Mutant(
        name="parents-wait-for-all-branches",
        promise="P2",
        takes_out="looking whether branches remain",
        at=f"{TOKENS}:_is_there",
        old='t.token.c.remaining == sa.literal_column("0")),',
        new='t.token.c.remaining >= sa.literal_column("0")),',
        tests=(
            f"{PARALLEL}::test_recovery_does_not_bring_a_parent_past_a_branch_that_has_not_ended",
        ),
    ),
    Mutant(
        name="failed-branches-are-counted",
        promise="P8",
        takes_out="counting a branch that failed",
        at=f"{GATES}:_joined",
        old='failed=p.failed + sql.integer("failed"),',
        new="failed=p.failed,",
        tests=(f"{FAILURES}::test_all_settle_and_the_completed_are_undone_newest_first",),
    ),
    Mutant(
        name="window-refill",
        promise="P2",
        takes_out="opening items as others end",
        at=f"{GATES}:_joined",
        old='(sa.and_(has_room, p.flags == sa.literal_column("0")), chunk),',
        new='(has_room, sa.literal_column("0")),',
        tests=(f"{WINDOW}::test_the_window_is_refilled_as_each_item_ends",),
    ),
    Mutant(
        name="window-waits-for-room",
        promise="P4",
        takes_out="looking whether a chunk of the window has ended",
        at=f"{GATES}:_joined",
        old='has_room = sa.or_(ended % chunk == sa.literal_column("0"), ended >= p.opened)',
        new="has_room = sa.true()",
        tests=(f"{WINDOW}::test_a_chunk_is_opened_when_a_chunk_has_ended",),
    ),
    Mutant(
        name="chunks-share-a-message",
        promise="P11",
        takes_out="one message for the items of a chunk",
        at=f"{GATES}:_hinted",
        old='opened.c.position // sql.integer("chunk"),',
        new="opened.c.position,",
        tests=(f"{WINDOW}::test_a_chunk_shares_a_message",),
    ),
    Mutant(
        name="a-leave-without-a-hint-is-quiet",
        promise="P11",
        takes_out="waking no relay where a branch that leaves puts no hint",
        at="celery_durable.engine.commit:_next_hint",
        old="return 0.0 if written.puts_hint else None",
        new="return 0.0",
        tests=(
            (
                f"{TESTS}/test_wakeups.py"
                "::test_a_branch_that_leaves_wakes_relays_for_a_hint_only[all at once]"
            ),
        ),
    ),
    Mutant(
        name="fail-fast",
        promise="P8",
        takes_out="dropping the branches and items that have not begun",
        at=f"{PROGRESS}:leave",
        old="return Leave(counts, counts and unit.node.fail_fast,",
        new="return Leave(counts, False,",
        tests=(
            f"{FAILURES}::test_fail_fast_drops_the_branches_that_have_not_begun",
            f"{MAP_FAILURES}::test_fail_fast_drops_items_that_have_not_begun_and_those_that_wait_for_room",
        ),
    ),
    Mutant(
        name="fail-fast-spares-what-has-begun",
        promise="P8",
        takes_out="keeping a branch that has begun and that nobody has in hand",
        at=f"{GATES}:_stopped",
        old="sa.not_(t.token.c.begun),",
        new="",
        tests=(
            f"{LETTING_GO}::test_a_branch_that_timed_out_is_not_dropped_by_fail_fast",
            f"{LETTING_GO}::test_a_branch_whose_draining_worker_died_is_not_dropped_by_fail_fast",
            f"{FAILURES}::test_fail_fast_lets_a_branch_in_hand_end_and_it_is_undone",
        ),
    ),
    Mutant(
        name="errors-that-are-kept",
        promise="P8",
        takes_out='on_error="keep"',
        at=f"{PROGRESS}:leave",
        old="counts = failed and not unit.node.keeps_errors",
        new="counts = failed",
        tests=(
            f"{MAP_FAILURES}::test_with_errors_kept_the_place_of_a_failed_item_holds_its_error",
        ),
    ),
    Mutant(
        name="items-commit-with-the-fork",
        promise="P1",
        takes_out="the items that wait for room",
        at=f"{GATES}:fork_parts",
        old="return [hinted, stored]",
        new="_ = stored\nreturn [hinted]",
        tests=(f"{WINDOW}::test_the_window_is_refilled_as_each_item_ends",),
    ),
)

ONE_AFTER_THE_OTHER = (
    Mutant(
        name="route-decision-first",
        promise="P3",
        takes_out="recording the selector's answer before its case begins",
        at=f"{WAITS}:chosen",
        old="return Decision(token, units.same_again(plan, there), (record,))",
        new="return Decision(token, units.same_again(plan, there))",
        tests=(f"{ROUTE}::test_the_selectors_answer_is_journaled_before_the_case_begins",),
    ),
    Mutant(
        name="a-child-starts-with-its-parents-wait",
        promise="P1",
        takes_out="the transaction that a child's start and its parent's wait share",
        at="celery_durable.engine.commit:Committer._committed",
        old="together=isinstance(execution.event, ChildRequested)",
        new="together=False",
        tests=(
            (
                f"{TESTS}/test_protocol.py"
                "::test_a_parent_does_not_wait_for_a_child_that_could_not_be_started"
            ),
        ),
    ),
    Mutant(
        name="an-iteration-is-a-commit",
        promise="P3",
        takes_out="recording each iteration as it ends",
        at=f"{PROGRESS}:_iterated",
        old="return Decision(token, following, (record,))",
        new="return Decision(token, following)",
        tests=(
            f"{LOOP}::test_each_iteration_is_a_unit_and_a_commit_of_its_own",
            f"{LOOP}::test_a_run_killed_in_iteration_7_goes_on_with_7",
        ),
    ),
    Mutant(
        name="max-iterations",
        promise="P2",
        takes_out="the end of a loop that is never done",
        at=f"{PROGRESS}:is_exhausted",
        old="(token.position or 0) + 1 >= node.max_iterations",
        new="(token.position or 0) > node.max_iterations",
        tests=(f"{LOOP}::test_a_loop_ends_after_max_iterations",),
    ),
    Mutant(
        name="timers-are-not-early",
        promise="P2",
        takes_out="the time before which a sleeping run must not go on",
        at=f"{COMMITS}:_MOVED",
        old='"wake_at": sql.later("delay"),',
        new='"wake_at": sql.clock,',
        tests=(f"{SLEEP}::test_a_message_that_comes_early_does_not_wake_it",),
    ),
    Mutant(
        name="time-limits-are-no-crashes",
        promise="P5",
        takes_out="telling a unit that took too long from one whose worker died",
        at=f"{ORPHANS}:_TIMED_OUT",
        old="_TIMED_OUT: Any = sa.literal_column(str(int(Flags.TIMED_OUT)))",
        new='_TIMED_OUT: Any = sa.literal_column("0")',
        tests=(
            f"{TIMEOUTS}::test_a_claim_past_its_deadline_is_a_failed_attempt_and_no_crash",
            f"{TIMEOUTS}::test_a_worker_that_dies_past_the_deadline_has_timed_out",
        ),
    ),
    Mutant(
        name="time-is-up-when-it-dies",
        promise="P5",
        takes_out="asking when a worker died, not when somebody was sure of it",
        at=f"{ORPHANS}:_has_timed_out",
        old="sa.func.coalesce(t.worker.c.ended_at, sql.clock)",
        new="sql.clock",
        tests=(f"{TIMEOUTS}::test_a_worker_that_seemed_dead_before_the_deadline_has_crashed",),
    ),
    Mutant(
        name="a-message-limits-its-own-unit",
        promise="P5",
        takes_out="putting back a unit whose message has the limit of another",
        at=f"{ADMIT}:_released_for",
        old="if facts.misfits:",
        new="if False:",
        tests=(f"{LETTING_GO}::test_a_hint_of_an_earlier_unit_does_not_limit_a_later_one",),
    ),
    Mutant(
        name="claims-of-those-just-declared-dead",
        promise="P5",
        takes_out="asking again for orphaned claims after workers were declared dead",
        at="celery_durable.background.recovery:Reaper.reap",
        old="orphaned = reaping.find(connection, BATCH)",
        new="pass",
        tests=(f"{TAKEOVER}::test_a_worker_dies_by_its_ttl_when_it_was_watched_for_so_long",),
    ),
    Mutant(
        name="claims-make-the-reaper-look-soon",
        promise="P5",
        takes_out="looking for dead workers more often while something is claimed",
        at="celery_durable.background.relay:Chores._reap",
        old="REAP_EVERY if self._reaper.saw_claims else REAP_EVERY_IF_IDLE",
        new="REAP_EVERY_IF_IDLE",
        tests=(f"{IDLE}::test_while_a_token_is_claimed_dead_workers_are_looked_for_more_often",),
    ),
    Mutant(
        name="overdue-claims",
        promise="P5",
        takes_out="freeing a claim whose unit takes too long",
        at="celery_durable.background.recovery:Reaper.reap",
        old="(*orphaned, *self._overdue(watched.limited))",
        new="orphaned",
        tests=(f"{TIMEOUTS}::test_a_claim_past_its_deadline_is_a_failed_attempt_and_no_crash",),
    ),
)

ARRIVALS = (
    Mutant(
        name="signals-are-consumed-once",
        promise="P9",
        takes_out="looking whether a signal is consumed as it is locked",
        at=f"{COMMITS}:_signal",
        old='t.inbox.c.id == sql.big("message"), t.inbox.c.consumed_by.is_(None))',
        new='t.inbox.c.id == sql.big("message"))',
        tests=(
            f"{MECHANISMS}::test_of_two_commits_that_consume_one_signal_the_later_finds_it_gone",
        ),
    ),
    Mutant(
        name="signals-are-locked",
        promise="P9",
        takes_out="locking a signal before it is consumed",
        at=f"{COMMITS}:_signal",
        old='.with_for_update()\n.cte("signal")',
        new='.cte("signal")',
        tests=(
            f"{MECHANISMS}::test_of_two_commits_that_consume_one_signal_the_later_finds_it_gone",
        ),
    ),
    Mutant(
        name="signals-are-used-up",
        promise="P9",
        takes_out="writing down that a signal is consumed",
        at=f"{COMMITS}:_commit",
        old='parts.append(_consumed(held).cte("consumed"))',
        new="_ = _consumed(held)",
        tests=(f"{SIGNALS}::test_the_oldest_of_a_name_goes_first",),
    ),
    Mutant(
        name="a-look-after-parking",
        promise="P9",
        takes_out="looking into the inbox again once a token is parked",
        at=f"{SETTLE}:Committer.continue_with",
        old="return self._claims.again(claim)",
        new="return None",
        tests=(f"{MECHANISMS}::test_a_signal_that_comes_while_the_token_is_parked_is_seen",),
    ),
    Mutant(
        name="signals-wake-who-waits",
        promise="P9",
        takes_out="claiming a token whose signal is there",
        at=f"{TOKENS}:_is_there",
        old="t.inbox.c.name == t.token.c.awaits,",
        new="t.inbox.c.name != t.token.c.awaits,",
        tests=(
            f"{SIGNALS}::test_a_signal_is_consumed_whether_it_comes_before_or_while_the_run_waits",
        ),
    ),
    Mutant(
        name="answers-belong-to-their-unit",
        promise="P9",
        takes_out="what a suspended step has kept",
        at=f"{COMMITS}:_RARE",
        old='"snapshot": sql.json("snapshot"),',
        new='"snapshot": sa.null(),',
        tests=(f"{SUSPEND}::test_a_resume_enters_exactly_the_unit_that_asked",),
    ),
)

FAMILIES = (
    Mutant(
        name="parents-wait-for-their-child",
        promise="P2",
        takes_out="looking whether the child has ended",
        at=f"{TOKENS}:_is_there",
        old=", _child.c.finished_at.is_not(None)",
        new="",
        tests=(f"{MECHANISMS}::test_a_parent_is_not_to_be_had_before_its_child_has_ended",),
    ),
    Mutant(
        name="parents-wait-for-one-child",
        promise="P2",
        takes_out="which child it is that a parent waits for",
        at=f"{TOKENS}:_is_there",
        old="_child.c.id == t.token.c.child_run_id",
        new="_child.c.parent_token == t.token.c.id",
        tests=(f"{MECHANISMS}::test_only_the_child_that_a_parent_waits_for_lets_it_go_on",),
    ),
    Mutant(
        name="children-tell-their-parent",
        promise="P2",
        takes_out="the parent's hint as a child ends",
        at=f"{COMMITS}:_told",
        old='parts.append(_parent_hinted(held).cte("told"))',
        new="_ = _parent_hinted(held)",
        tests=(f"{MECHANISMS}::test_the_end_of_a_child_leaves_a_hint_for_its_parent",),
    ),
    Mutant(
        name="cancels-go-down-the-tree",
        promise="P2",
        takes_out="the children of what a cancel reaches",
        at=f"{ANNOUNCING}:_children",
        old="child.c.finished_at.is_(None)",
        new="sa.false()",
        tests=(f"{AT_ONCE}::test_a_cancel_reaches_the_unit_in_hand_of_a_run_far_below",),
    ),
    Mutant(
        name="cancels-come-in-rounds",
        promise="P2",
        takes_out="looking again at tokens that were locked",
        at="celery_durable.background.cancelling:_Cancel._announce",
        old="if not any(run.is_locked for run in tree):",
        new="if tree:",
        tests=(f"{LOCKS}::test_a_child_that_is_being_started_is_cancelled_too",),
    ),
    Mutant(
        name="trees-that-are-cancelled-do-not-grow",
        promise="P2",
        takes_out="refusing a child whose root has been cancelled",
        at="celery_durable.store.runs:_started",
        old=".where(sa.not_(_is_cancelled))",
        new="",
        tests=(f"{AT_ONCE}::test_no_child_is_started_in_a_tree_that_is_cancelled",),
    ),
    Mutant(
        name="a-tree-has-a-depth",
        promise="P12",
        takes_out="refusing a child that is too deep",
        at=f"{ENGINE}:Engine._new_child",
        old="if parent.depth >= self._settings.max_depth:",
        new="if parent.depth >= 2 * self._settings.max_depth:",
        tests=(f"{AT_ONCE}::test_a_child_that_would_be_too_deep_fails_its_unit",),
    ),
    Mutant(
        name="cancels-end-what-is-idle",
        promise="P2",
        takes_out="ending at once what nobody executes",
        at="celery_durable.background.cancelling:_Cancel.apply",
        old="self._end(runs, outermost, has_branches=has_branches)",
        new="pass",
        tests=(
            f"{AT_ONCE}::test_what_nobody_executes_ends_at_once_though_nobody_consumes_its_queue",
        ),
    ),
    Mutant(
        name="cancels-hint-what-is-left",
        promise="P2",
        takes_out="the hints for what only workers can end",
        at="celery_durable.background.cancelling:_Cancel.apply",
        old="ending.put_hints_for(connection, runs)",
        new="pass",
        tests=(f"{TREE}::test_a_cancel_reaches_all_descendants_that_wait",),
    ),
    Mutant(
        name="cancels-wait-for-no-token",
        promise="P2",
        takes_out="leaving out what somebody has locked",
        at=f"{ANNOUNCING}:_locked_firsts",
        old=".with_for_update(skip_locked=True, of=t.token)",
        new=".with_for_update(of=t.token)",
        tests=(f"{LOCKS}::test_a_cancel_waits_for_no_token_that_another_has_locked",),
    ),
    Mutant(
        name="cancelled-branches-are-counted",
        promise="P2",
        takes_out="counting the branches that a cancel has ended",
        at=f"{BRANCHES}:_COUNT_DOWN",
        old="t.token.c.remaining - _left_now - (",
        new="t.token.c.remaining - (",
        tests=(f"{FAILURES}::test_a_cancel_drops_what_has_not_begun_and_waits_for_what_has",),
    ),
    Mutant(
        name="cancelled-items-are-counted",
        promise="P2",
        takes_out="counting the items that wait for room when a cancel comes",
        at=f"{BRANCHES}:_COUNT_DOWN",
        old="- (t.token.c.total - t.token.c.opened),",
        new=",",
        tests=(f"{WINDOW}::test_a_cancel_drops_the_items_that_wait_for_room",),
    ),
    Mutant(
        name="cancels-are-announced",
        promise="P3",
        takes_out="flags on the token that forks, before its branches are ended",
        at=f"{ANNOUNCING}:_raised",
        old='t.token.c.flags.op("|")(_flags)',
        new="t.token.c.flags",
        tests=(f"{LOCKS}::test_a_fork_that_commits_while_a_cancel_is_applied_begins_nothing",),
    ),
    Mutant(
        name="a-status-is-one-state",
        promise="P12",
        takes_out="reading a status in one snapshot of the database",
        at="celery_durable.reading:Reading.status",
        old="self._reading()",
        new="self._reading(together=False)",
        tests=(f"{TESTS}/test_looking.py::test_a_status_is_one_state_of_its_run",),
    ),
)

NODES: tuple[Mutant, ...] = (*FORKS, *ONE_AFTER_THE_OTHER, *ARRIVALS, *FAMILIES)
