"""The mutants of recovery: each case of what may be lost, patience, turns, and who is spared."""

from tests.mutants.mutant import Mutant

RECOVERY = "celery_durable.background.recovery"
RELAY = "celery_durable.background.relay"
STALLED = "celery_durable.store.lost_hints"
LEASE = "celery_durable.store.scan_lease"
TOKENS = "celery_durable.store.tokens"
COMMITS = "celery_durable.store.commit.statement"
DEATHS = "celery_durable.store.dead_workers"
ORPHANS = "celery_durable.store.reaping"
NOTIFY = "celery_durable.database.notify"

TESTS = "tests/integration"
LOST = f"{TESTS}/test_nothing_is_lost.py"
NODES = f"{TESTS}/test_recover_nodes.py"
AT_ONCE = f"{TESTS}/test_recover_at_once.py"
TAKEOVER = f"{TESTS}/test_takeover.py"
ALIVE = f"{TESTS}/test_liveness.py"
PROTOCOL = f"{TESTS}/test_protocol.py"
RUNNING = f"{TESTS}/test_relay_running.py"
START_TASK = f"{TESTS}/test_start_task.py"
CLI = f"{TESTS}/test_cli.py"
POOLER = "tests/brokers/test_transaction_pooler.py"

CASES = (
    Mutant(
        name="recover-reaps",
        promise="P2",
        takes_out="reaping when recovery is called",
        at=f"{RECOVERY}:recover",
        old="moved = _reaped(database, connection, reaper)",
        new="moved = 0",
        tests=(
            f"{LOST}::test_recovery_alone_brings_a_run_to_its_end_after_a_crash_at_every_claim",
        ),
    ),
    Mutant(
        name="recover-applies-commands",
        promise="P2",
        takes_out="applying commands that nobody has applied",
        at=f"{RECOVERY}:recover",
        old="moved += _apply_waiting_commands(database)",
        new="pass",
        tests=(f"{NODES}::test_a_cancel_that_nobody_has_applied",),
    ),
    Mutant(
        name="relays-apply-commands",
        promise="P2",
        takes_out="applying, with a relay's lease, commands that nobody has applied",
        at=f"{RECOVERY}:recover_with_lease",
        old="moved += _apply_waiting_commands(database)",
        new="pass",
        tests=(f"{AT_ONCE}::test_relays_apply_commands_and_forget_what_is_old",),
    ),
    Mutant(
        name="recover-sees-signals",
        promise="P9",
        takes_out="finding a token whose signal has come",
        at=f"{TOKENS}:_is_there",
        old='t.token.c.wait == sql.word("signal"),\n        sql.there_is(',
        new="sa.false(),\n        sql.there_is(",
        tests=(f"{NODES}::test_a_signal_whose_hint_was_lost",),
    ),
    Mutant(
        name="recover-sees-children",
        promise="P2",
        takes_out="finding a token whose child has ended",
        at=f"{TOKENS}:_is_there",
        old="_child.c.id == t.token.c.child_run_id, _child.c.finished_at.is_not(None)",
        new="sa.false()",
        tests=(f"{NODES}::test_a_child_that_ended_unheard",),
    ),
    Mutant(
        name="recover-sees-gates",
        promise="P2",
        takes_out="finding a token whose branches have all left",
        at=f"{TOKENS}:_is_there",
        old='t.token.c.remaining == sa.literal_column("0")',
        new="sa.false()",
        tests=(f"{NODES}::test_a_gate_that_opened_unseen",),
    ),
    Mutant(
        name="recover-sees-times",
        promise="P2",
        takes_out="finding a wait whose time has come, or of which something is asked",
        at=f"{TOKENS}:_is_there",
        old='sa.and_(t.token.c.wait.in_([sql.word("signal"), sql.word("timer")]), _is_called)',
        new="sa.false()",
        tests=(
            f"{NODES}::test_a_time_whose_message_was_lost",
            f"{NODES}::test_a_token_that_was_flagged_and_of_which_nobody_was_told",
        ),
    ),
    Mutant(
        name="recover-sees-flags",
        promise="P2",
        takes_out="finding a token of which something is asked",
        at=f"{TOKENS}:_is_called",
        old="_is_called = sa.or_(_is_flagged,",
        new="_is_called = sa.or_(sa.false(),",
        tests=(f"{NODES}::test_a_token_that_was_flagged_and_of_which_nobody_was_told",),
    ),
    Mutant(
        name="hints-of-an-older-fence",
        promise="P2",
        takes_out="telling a hint of this claim from one of an older",
        at=f"{STALLED}:_is_hinted",
        old="t.outbox.c.fence == t.token.c.fence,",
        new="",
        tests=(f"{LOST}::test_a_hint_of_an_older_claim_does_not_hide_a_lost_one",),
    ),
    Mutant(
        name="hints-that-are-far-away",
        promise="P2",
        takes_out="telling a hint that is due from one that is not",
        at=f"{STALLED}:_is_hinted",
        old="sa.or_(IS_AT_ONCE, t.outbox.c.available_at <= sql.clock),",
        new="",
        tests=(f"{LOST}::test_a_timer_far_away_does_not_hide_a_lost_hint",),
    ),
    Mutant(
        name="claimed-tokens-are-not-lost",
        promise="P4",
        takes_out="leaving alone what somebody works on",
        at=f"{STALLED}:_is_unclaimed",
        old="t.token.c.claimed_by.is_(None)",
        new="sa.true()",
        tests=(f"{AT_ONCE}::test_a_token_that_somebody_works_on_is_never_hinted",),
    ),
    Mutant(
        name="late-signals-are-forgotten",
        promise="P9",
        takes_out="removing signals that came while their run ended",
        at=f"{RECOVERY}:_forget",
        old="signals.forget_late(connection)",
        new="",
        tests=(f"{AT_ONCE}::test_signals_that_came_while_their_run_ended_are_forgotten",),
    ),
)

PATIENCE = (
    Mutant(
        name="patience-is-capped",
        promise="P2",
        takes_out="the longest time after which a hint is taken for lost",
        at=f"{STALLED}:_timeout",
        old='sa.func.least(sql.number("first_after") * _doublings, sql.number("at_most"))',
        new='sql.number("first_after") * _doublings',
        tests=(f"{LOST}::test_the_patience_with_hints_ends",),
    ),
    Mutant(
        name="hints-are-counted",
        promise="P2",
        takes_out="counting the hints that recovery sends",
        at=f"{STALLED}:_again",
        old="hints=t.token.c.hints + 1",
        new="hints=t.token.c.hints",
        tests=(
            f"{LOST}::test_a_hint_that_may_still_come_is_not_sent_again",
            f"{AT_ONCE}::test_a_long_queue_is_not_flooded",
        ),
    ),
    Mutant(
        name="hints-have-a-time",
        promise="P2",
        takes_out="noting when a hint was sent again",
        at=f"{STALLED}:_again",
        old="hinted_at=sql.clock,",
        new="",
        tests=(f"{LOST}::test_a_hint_that_may_still_come_is_not_sent_again",),
    ),
    Mutant(
        name="patience-starts-again",
        promise="P2",
        takes_out="starting to count hints anew at a commit",
        at="celery_durable.store.tokens:RELEASED",
        old='"hints": sa.literal_column("0"),',
        new="",
        tests=(f"{LOST}::test_the_patience_with_hints_starts_again_at_a_commit",),
    ),
    Mutant(
        name="patience-from-the-due-time",
        promise="P2",
        takes_out="giving the message of a time that has just come its time",
        at=f"{STALLED}:_since",
        old="sa.case((_is_only_due, _due_since), else_=t.token.c.hinted_at)",
        new="t.token.c.hinted_at",
        tests=(f"{NODES}::test_a_time_whose_message_was_lost",),
    ),
)

TURNS = (
    Mutant(
        name="recoveries-skip-each-other",
        promise="P2",
        takes_out="skipping the tokens that another recovery has in hand",
        at=f"{STALLED}:_stalled",
        old=".with_for_update(skip_locked=True)",
        new="",
        tests=(f"{AT_ONCE}::test_a_recovery_skips_what_another_has_in_hand",),
    ),
    Mutant(
        name="every-page",
        promise="P2",
        takes_out="looking at more than the first page",
        at=f"{RECOVERY}:recover",
        old="while page.reached is not None:",
        new="while False:",
        tests=(f"{AT_ONCE}::test_recovery_looks_at_every_page",),
    ),
    Mutant(
        name="turns",
        promise="P11",
        takes_out="leaving a page to whoever has come first",
        at=f"{LEASE}:take",
        old="return None",
        new="return ScanLease(None, {}, {}, True, True, True)",
        tests=(
            f"{AT_ONCE}::test_a_page_is_not_looked_at_before_its_time",
            f"{AT_ONCE}::test_the_turn_of_a_relay_that_died_is_over_after_a_while",
        ),
    ),
    Mutant(
        name="the-place-of-a-round",
        promise="P2",
        takes_out="going on where the last relay left off",
        at=f"{LEASE}:_END",
        old='reached=sql.uuid("reached"), next_at',
        new="next_at",
        tests=(f"{AT_ONCE}::test_relays_share_one_round_of_all_pages",),
    ),
    Mutant(
        name="no-pause-while-hints-are-lost",
        promise="P2",
        takes_out="going on at once where hints were lost",
        at=f"{RECOVERY}:_pause_after",
        old="if is_full or (page.reached is not None and page.hinted):",
        new="if is_full:",
        tests=(f"{AT_ONCE}::test_the_page_after_one_with_lost_hints_is_looked_at_at_once",),
    ),
    Mutant(
        name="a-clock-that-was-set-back",
        promise="P2",
        takes_out="seeing that the end of a lease is further off than it can be",
        at=f"{LEASE}:_is_soon",
        old='next_at <= sql.clock + sql.interval("lease")',
        new='next_at != sql.clock + sql.interval("lease")',
        tests=(f"{AT_ONCE}::test_a_clock_that_was_set_back_stops_nobody",),
    ),
)

SPARED = (
    Mutant(
        name="workers-without-a-lock",
        promise="P5",
        takes_out="waiting for the TTL of a worker that holds no lock",
        at=f"{DEATHS}:_is_unlocked",
        old="(t.worker.c.lock_number.is_(None), sa.false())",
        new="(t.worker.c.lock_number.is_(None), sa.true())",
        tests=(f"{TAKEOVER}::test_a_worker_without_a_lock_is_dead_only_when_it_expired",),
    ),
    Mutant(
        name="reapers-wait-for-nobody",
        promise="P5",
        takes_out="skipping a token whose row is locked",
        at=f"{ORPHANS}:_REAP_IF_UNLOCKED",
        old="_REAP_IF_UNLOCKED = _reaping(_still_claimed.with_for_update(skip_locked=True))",
        new="_REAP_IF_UNLOCKED = _reaping(_still_claimed.with_for_update())",
        tests=(f"{AT_ONCE}::test_a_reaper_waits_for_nobody",),
    ),
    Mutant(
        name="newer-claims-are-spared",
        promise="P4",
        takes_out="freeing the claim that was seen and no newer one",
        at=f"{ORPHANS}:_still_claimed",
        old='t.token.c.fence == sql.uuid("old_fence"),',
        new="",
        tests=(f"{AT_ONCE}::test_a_reaper_that_comes_late_frees_no_newer_claim",),
    ),
    Mutant(
        name="nobody-listens-behind-a-pooler",
        promise="P2",
        takes_out="leaving LISTEN out where a session is shared",
        at=f"{NOTIFY}:Listener._open",
        old="if is_direct(PsycopgConnection(raw, self._database.schema)):",
        new="if True:",
        tests=(f"{POOLER}::test_a_relay_does_not_listen_on_a_session_that_it_shares",),
    ),
)

REAPED = (
    Mutant(
        name="what-is-freed-has-a-new-fence",
        promise="P4",
        takes_out="a new fence for what is taken away",
        at=f"{ORPHANS}:_reaping",
        old='fence=sql.uuid("new_fence"),',
        new="",
        tests=(f"{PROTOCOL}::test_a_result_that_comes_too_late_is_dropped_in_one_line",),
    ),
    Mutant(
        name="what-is-reaped-is-free",
        promise="P5",
        takes_out="taking the claim of the dead away",
        at=f"{ORPHANS}:_reaping",
        old="claimed_by=sa.null(),",
        new="",
        tests=(f"{TAKEOVER}::test_a_worker_whose_lock_is_free_is_reaped_at_once",),
    ),
    Mutant(
        name="freed-one-by-one",
        promise="P5",
        takes_out="a transaction for each token that is freed",
        at=f"{RECOVERY}:recover",
        old="database.autocommit()",
        new="database.transaction()",
        tests=(f"{AT_ONCE}::test_what_a_reaper_has_freed_is_free_whatever_becomes_of_the_next",),
    ),
)

ASKED_FOR = (
    Mutant(
        name="relays-reap",
        promise="P5",
        takes_out="reaping in each relay",
        at=f"{RELAY}:Chores._reap",
        old="moved = self._reaper.reap(connection)",
        new="moved = 0",
        tests=(f"{RUNNING}::test_a_relay_frees_what_the_dead_had_claimed",),
    ),
    Mutant(
        name="relays-recover",
        promise="P2",
        takes_out="recovering in each relay",
        at=f"{RELAY}:Chores._recover",
        old="""
recovered = recover_with_lease(self._database)
return recovered.moved, recovered.pause.total_seconds()
""",
        new="return 0, 1.0",
        tests=(f"{RUNNING}::test_a_relay_sends_lost_hints_again",),
    ),
    Mutant(
        name="beat-recovers",
        promise="P2",
        takes_out="recovering when beat says so",
        at="celery_durable.worker.tasks:register",
        old="recover_unless_away(durable)",
        new="pass",
        tests=(f"{START_TASK}::test_the_other_tasks_do_what_they_are_called",),
    ),
    Mutant(
        name="the-command-recovers",
        promise="P2",
        takes_out="recovering on the command line",
        at="celery_durable.cli.recover:recover",
        old="moved = durable.recover()",
        new="moved = 0",
        tests=(f"{CLI}::test_recover_says_how_many_tokens_it_moved",),
    ),
    Mutant(
        name="the-client-recovers",
        promise="P2",
        takes_out="recovering when a program asks for it",
        at="celery_durable.client:Client.recover",
        old="recovery.recover(self.database)",
        new="0",
        tests=(f"{LOST}::test_recovery_alone_brings_a_run_to_its_end",),
    ),
    Mutant(
        name="hints-name-the-fence",
        promise="P2",
        takes_out="the fence of the claim that a hint was put after",
        at="celery_durable.store.outbox:hint_of",
        old="token.c.fence,",
        new="sa.func.gen_random_uuid(),",
        tests=(f"{LOST}::test_a_hint_that_may_still_come_is_not_sent_again",),
    ),
)

BOUNDED = (
    Mutant(
        name="batches-of-the-dead",
        promise="P11",
        takes_out="the bound of what one look frees",
        at=f"{ORPHANS}:ORPHANED",
        old='.limit(sql.integer("batch"))',
        new='.where(sql.integer("batch") > 0)',
        tests=(f"{AT_ONCE}::test_one_look_takes_no_more_than_a_batch",),
    ),
    Mutant(
        name="batches-of-the-lost",
        promise="P11",
        takes_out="the bound of tokens that are looked at in one statement",
        at=f"{STALLED}:_has_come",
        old='.limit(sql.integer("page"))',
        new='.where(sql.integer("page") > 0)',
        tests=(f"{AT_ONCE}::test_one_look_takes_no_more_than_a_batch",),
    ),
    Mutant(
        name="batches-of-commands",
        promise="P11",
        takes_out="the bound of runs whose commands are applied in one go",
        at="celery_durable.store.inbox:_PENDING",
        old='.limit(sql.integer("batch"))',
        new='.where(sql.integer("batch") > 0)',
        tests=(f"{AT_ONCE}::test_one_look_takes_no_more_than_a_batch",),
    ),
    Mutant(
        name="pages-have-an-end",
        promise="P11",
        takes_out="the bound of a page",
        at=f"{STALLED}:_page_end",
        old='.limit(sa.literal_column("1"))',
        new=".where(sa.false())",
        tests=(f"{AT_ONCE}::test_the_page_after_one_with_lost_hints_is_looked_at_at_once",),
    ),
)

RECOVERING: tuple[Mutant, ...] = (
    *CASES,
    *PATIENCE,
    *TURNS,
    *SPARED,
    *REAPED,
    *ASKED_FOR,
    *BOUNDED,
)
