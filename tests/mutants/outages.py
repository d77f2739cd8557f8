"""The mutants of how workers live with a Postgres that is away, or cannot."""

from tests.mutants.mutant import Mutant

ENGINE = "celery_durable.engine"
TRANSACTIONAL = "celery_durable.transactional"
SETTLE = "celery_durable.settle"
LIVENESS = "celery_durable.liveness"
OUTAGE = "celery_durable.outage"
PATIENCE = "celery_durable.store.patience"
PAST = "celery_durable.store.past"
TOKENS = "celery_durable.store.tokens"
CONNECTION = "celery_durable.store.connection"

OUT = "tests/integration/test_outages.py"
UNIT = "tests/unit/test_outage.py"
CUT = "tests/integration/test_connections_cut.py"
OUTCOME = "tests/integration/test_unknown_outcome.py"

EACH_STATEMENT = f"{CUT}::test_a_run_cut_at_any_statement_ends_like_an_undisturbed_one"

OUTAGES: tuple[Mutant, ...] = (
    Mutant(
        name="asked-again-until-answered",
        promise="P2",
        takes_out="asking Postgres again while it is away",
        at=f"{PATIENCE}:Patience.until_answered",
        old="if not may_go_well_later(error):",
        new="if True:",
        tests=(
            f"{OUTCOME}::test_a_connection_lost_before_the_commit_repeats_the_commit_not_the_unit",
            f"{OUT}::test_what_postgres_cannot_do_now_is_done_a_little_later",
            f"{OUT}::test_a_message_waits_for_a_database_that_is_away_when_the_worker_starts",
        ),
    ),
    Mutant(
        name="a-bug-is-not-an-outage",
        promise="P12",
        takes_out="telling what goes well later from what never does",
        at=f"{PATIENCE}:Patience.until_answered",
        old="if not may_go_well_later(error):",
        new="if False:",
        tests=(f"{OUT}::test_a_bug_in_a_statement_is_raised",),
    ),
    Mutant(
        name="growing-pauses",
        promise="P2",
        takes_out="waiting longer each time Postgres is asked again",
        at=f"{PATIENCE}:Patience.until_answered",
        old="wait = min(2 * wait, MAXIMUM)",
        new="wait = 0.0",
        tests=(f"{UNIT}::test_postgres_is_asked_less_and_less_often_and_not_for_ever",),
    ),
    Mutant(
        name="a-claim-sent-again-finds-itself",
        promise="P2",
        takes_out="knowing one's own claim by its fence",
        at=f"{TOKENS}:_CLAIM",
        old='sa.or_(t.token.c.claimed_by.is_(None), t.token.c.fence == sql.uuid("new_fence")),',
        new="t.token.c.claimed_by.is_(None),",
        tests=(
            f"{OUTCOME}::test_a_claim_whose_answer_was_lost_is_sent_again_and_finds_itself",
            f"{EACH_STATEMENT}[transactional-after]",
        ),
    ),
    Mutant(
        name="the-past-is-waited-for",
        promise="P2",
        takes_out="reading the past again while Postgres is away",
        at=f"{PAST}:Past.result",
        old=(
            "return self._patience.ask(\n"
            "    lambda connection: results.of_unit(connection, self._run_id, unit)\n"
            ")"
        ),
        new=(
            "with self._database.autocommit() as connection:\n"
            "    return results.of_unit(connection, self._run_id, unit)"
        ),
        tests=(f"{OUT}::test_a_handler_that_reads_the_past_in_an_outage_waits_for_the_end_of_it",),
    ),
    Mutant(
        name="heartbeats-survive-outages",
        promise="P2",
        takes_out="going on where a heartbeat is not heard",
        at=f"{PAST}:Past.beat",
        old="self._database.outage.notice(error)",
        new="raise error",
        tests=(f"{OUT}::test_a_heartbeat_in_an_outage_lets_the_handler_go_on",),
    ),
    Mutant(
        name="what-was-heard-is-remembered",
        promise="P2",
        takes_out="remembering the last pulse",
        at=f"{PAST}:Past.beat",
        old="self._pulse = pulse.beat(connection, claim, text)",
        new="return pulse.beat(connection, claim, text)",
        tests=(f"{OUT}::test_a_cancel_that_was_heard_before_the_outage_is_not_forgotten",),
    ),
    Mutant(
        name="claims-given-up-are-given-back",
        promise="P2",
        takes_out="giving back at the next renewal what a worker had to give up",
        at=f"{LIVENESS}:Registration._audit",
        old="is_left = one.fence in before or one.token_id in given_up",
        new="is_left = one.fence in before and not given_up",
        tests=(
            f"{OUT}::test_a_worker_whose_patience_is_over_gives_the_claim_back_once_postgres_answers",
        ),
    ),
    Mutant(
        name="refused-claims-are-not-kept",
        promise="P2",
        takes_out="giving the claim back of a unit that cannot be recorded",
        at=f"{SETTLE}:Settler._give_up",
        old="self.put_back_for_later(claim)",
        new="",
        tests=(f"{OUT}::test_a_unit_that_stands_in_the_journal_already_is_not_kept",),
    ),
    Mutant(
        name="told-to-exit-in-an-outage",
        promise="P4",
        takes_out="exiting though the claim could not be given back",
        at=f"{ENGINE}:Engine._go_on",
        old="with self._audited_if_postgres_is_away(claim):",
        new="if True:",
        tests=(f"{OUT}::test_a_process_that_is_told_to_exit_in_an_outage_exits",),
    ),
    Mutant(
        name="a-cut-transaction-is-no-failure",
        promise="P6",
        takes_out="telling a cut transaction from a handler that failed",
        at=f"{TRANSACTIONAL}:Transactional._commit_with_step",
        old="if connection.was_cut(error) or may_go_well_later(error):",
        new="if False:",
        tests=(
            f"{OUT}::test_a_transactional_step_that_cannot_be_recorded_now_is_executed_again",
            f"{EACH_STATEMENT}[transactional-after]",
        ),
    ),
    Mutant(
        name="a-handlers-connection-that-was-cut",
        promise="P6",
        takes_out="looking whether the connection of a handler that failed was cut",
        at=f"{TRANSACTIONAL}:Transactional.do",
        old="elif connection.was_cut(execution.exception):",
        new="elif False:",
        tests=(f"{EACH_STATEMENT}[transactional-before]",),
    ),
    Mutant(
        name="the-unexpected-is-shown-once",
        promise="P12",
        takes_out="showing once what comes again and again",
        at="celery_durable.outage:Outage.goes_on",
        old="type(error) is not self._told",
        new="not is_expected",
        tests=(f"{UNIT}::test_what_nobody_expects_is_shown_once_however_often_it_comes",),
    ),
    Mutant(
        name="an-idle-transaction-is-no-outage",
        promise="P6",
        takes_out="telling a transaction that was idle for too long from one that was cut",
        at=f"{CONNECTION}:OwnTransaction.was_cut",
        old="return self.connection.invalidated and not took_too_long",
        new="return self.connection.invalidated",
        tests=(f"{OUT}::test_a_transaction_that_was_idle_for_too_long_is_a_failed_attempt",),
    ),
    Mutant(
        name="what-goes-well-later",
        promise="P2",
        takes_out="knowing timeouts, conflicts and exhausted resources for what passes",
        at=f"{CONNECTION}:PsycopgConnection.rows",
        old="if self.is_own:",
        new="if False:",
        tests=(f"{OUT}::test_a_renewal_that_postgres_cannot_do_now_is_done_later",),
    ),
    Mutant(
        name="one-line-per-outage",
        promise="P12",
        takes_out="saying it once for all threads",
        at=f"{OUTAGE}:Shared.notice",
        old="self._is_told = self._since - self._ended >= SAME_WITHIN",
        new="self._is_told = True",
        tests=(f"{UNIT}::test_threads_that_notice_one_by_one_say_it_once",),
    ),
    Mutant(
        name="a-final-failure-is-logged",
        promise="P3",
        takes_out="asking the journal whether a commit that is refused had been made",
        at="celery_durable.settle:Settler.after",
        old="if isinstance(committed, Refused) and self._was_committed(claim, decision):",
        new="if False:",
        tests=(
            "tests/integration/test_unknown_outcome.py::test_a_final_failure_whose_answer_was_lost_is_logged",
        ),
    ),
)
