"""The mutants of waiting for the end of a run, and of statements that nobody waits for."""

from tests.mutants.mutant import Mutant

ENDS = "celery_durable.database.ends"
NOTIFY = "celery_durable.database.notify"

TOLD = "tests/integration/test_told_of_the_end.py"
POSTED = "tests/integration/test_posted_statements.py"
POOLED = "tests/brokers/test_transaction_pooler.py"

WAITING = (
    Mutant(
        name="posted-answers-are-read",
        promise="P11",
        takes_out="reading the answer to a posted statement before the next",
        at="celery_durable.database.pool:Pool.take",
        old="has_answered(raw) and",
        new="",
        tests=(f"{POSTED}::test_the_next_statement_comes_after_the_answer_to_the_one_before",),
    ),
    Mutant(
        name="relays-are-woken-at-no-cost",
        promise="P11",
        takes_out="waking relays without waiting for the answer",
        at="celery_durable.database.pool:Pool.post",
        old="raw.pgconn.flush()",
        new="has_answered(raw)",
        tests=(f"{POSTED}::test_nobody_waits_for_the_answer_to_a_posted_statement",),
    ),
    Mutant(
        name="ends-are-told",
        promise="P2",
        takes_out="telling of the end of a run",
        at="celery_durable.engine.commit:Committer._tell",
        old="self._ended([claim.run.id])",
        new="pass",
        tests=(
            f"{TOLD}::test_an_end_wakes_whoever_waits_for_it",
            f"{TOLD}::test_the_end_of_a_step_with_its_callers_transaction_wakes_too",
        ),
    ),
    Mutant(
        name="cancels-are-told",
        promise="P2",
        takes_out="telling of runs that a cancel has ended",
        at="celery_durable.background.cancelling:_Cancel._finish",
        old="tell(self.database, [run.id for run in ended])",
        new="pass",
        tests=(f"{TOLD}::test_a_cancel_wakes_whoever_waits",),
    ),
    Mutant(
        name="nobody-is-told-for-nothing",
        promise="P11",
        takes_out="looking whether somebody waits before a NOTIFY",
        at=f"{NOTIFY}:_TELL",
        old="sa.func.pg_try_advisory_xact_lock(*EAR)",
        new="sa.false()",
        tests=(f"{TOLD}::test_nobody_is_told_where_nobody_waits",),
    ),
    Mutant(
        name="ends-look-seldom",
        promise="P11",
        takes_out="remembering that nobody waits",
        at=f"{NOTIFY}:Notifier.ended",
        old="if not run_ids or (not self._is_heard and now - self._last_told < LOOKS_EVERY):",
        new="if False:",
        tests=(f"{TOLD}::test_who_has_found_that_nobody_waits_looks_no_more_for_a_while",),
    ),
    Mutant(
        name="every-end-is-told",
        promise="P2",
        takes_out="telling of every end while somebody waits",
        at=f"{NOTIFY}:Notifier.ended",
        old="not self._is_heard and",
        new="",
        tests=(f"{TOLD}::test_every_end_is_told_while_somebody_waits",),
    ),
    Mutant(
        name="many-ends-at-once",
        promise="P2",
        takes_out="naming no more runs than a notification has room for",
        at=f"{NOTIFY}:tell",
        old="len(run_ids) <= MOST_TOLD",
        new="True",
        tests=(f"{TOLD}::test_more_ends_than_a_notification_can_name_wake_everybody",),
    ),
    Mutant(
        name="one-that-listens-says-so",
        promise="P2",
        takes_out="saying that this process listens",
        at=f"{ENDS}:Listening._listen",
        old='connection.rows(_SAYS_SO, {"channel": name})',
        new="pass",
        tests=(f"{TOLD}::test_an_end_wakes_whoever_waits_for_it",),
    ),
    Mutant(
        name="known-after-a-moment",
        promise="P2",
        takes_out="looking often until others know that this process listens",
        at=f"{ENDS}:Listening._listen",
        old="time.monotonic() + KNOWN_AFTER",
        new="0.0",
        tests=(
            f"{TOLD}::test_a_process_that_has_just_begun_to_listen_does_not_rely_on_being_told",
        ),
    ),
    Mutant(
        name="the-told-look-too",
        promise="P2",
        takes_out="looking now and then though an end would be told",
        at=f"{ENDS}:Waiter.wait",
        old="self.woken.wait(seconds)",
        new="self.woken.wait()",
        tests=(f"{TOLD}::test_an_end_that_nobody_tells_is_found_all_the_same",),
    ),
    Mutant(
        name="lost-ears",
        promise="P2",
        takes_out="listening again after a connection was lost",
        at=f"{ENDS}:Listening._run",
        old="while not self._is_over(kept):",
        new="if not self._is_over(kept):",
        tests=(f"{TOLD}::test_a_process_that_loses_its_connection_listens_again",),
    ),
    Mutant(
        name="no-ears-for-nobody",
        promise="P11",
        takes_out="leaving a lost connection where nobody waits",
        at=f"{ENDS}:Listening._run",
        old="kept = 0.0",
        new="pass",
        tests=(f"{TOLD}::test_one_that_lost_its_connection_and_waits_no_more_makes_no_other",),
    ),
    Mutant(
        name="idle-ears-close",
        promise="P11",
        takes_out="closing the connection when nobody waits any more",
        at=f"{ENDS}:Listening._is_idle",
        old="not self._waiting and time.monotonic() - self._idle_since >= seconds",
        new="False",
        tests=(f"{TOLD}::test_the_connection_is_closed_when_nobody_has_waited_for_a_while",),
    ),
    Mutant(
        name="forks-listen-for-themselves",
        promise="P2",
        takes_out="a connection of its own for a forked child",
        at=f"{ENDS}:Ends._of_process",
        old="os.getpid()",
        new="0",
        tests=(
            f"{TOLD}::test_a_forked_child_listens_for_itself_and_leaves_its_parents_connection_alone",
        ),
    ),
    Mutant(
        name="nobody-listens-on-a-shared-session",
        promise="P2",
        takes_out="only looking for results where sessions are shared",
        at=f"{ENDS}:Listening._listen",
        old="if not is_direct(connection):",
        new="if False:",
        tests=(
            f"{POOLED}::test_a_result_is_waited_for_by_looking_where_nobody_can_listen[pooled]",
        ),
    ),
)
