"""The mutants of how workers live with a Postgres that is away, or cannot."""

from tests.mutants.mutant import Mutant

ENGINE = "celery_durable.engine.loop"
TRANSACTIONAL = "celery_durable.engine.transactional"
SETTLE = "celery_durable.engine.commit"
LIVENESS = "celery_durable.background.liveness"
OUTAGE = "celery_durable.process.outage"
PATIENCE = "celery_durable.engine.retrying"
PAST = "celery_durable.engine.run_history"
TOKENS = "celery_durable.store.tokens"
CONNECTION = "celery_durable.store.connection"
REQUEST = "celery_durable.worker.request"

OUT = "tests/integration/test_outages.py"
UNIT = "tests/unit/test_outage.py"
RUNNING = "tests/integration/test_relay_running.py"
CHORES = "tests/integration/test_relay_chores.py"
LOGGED = "tests/integration/test_failures_logged.py"
OF_REQUEST = "tests/unit/test_request.py"
CUT = "tests/integration/test_connections_cut.py"
ROLLED = "tests/integration/test_transactional.py"
OUTCOME = "tests/integration/test_unknown_outcome.py"

EACH_STATEMENT = f"{CUT}::test_a_run_cut_at_any_statement_ends_like_an_undisturbed_one"

ON_RABBITMQ = "tests/integration/test_relay_rabbitmq.py"

OUTAGES: tuple[Mutant, ...] = (
    Mutant(
        name="asked-again-until-answered",
        promise="P2",
        takes_out="asking Postgres again while it is away",
        at=f"{PATIENCE}:Retrying.until_answered",
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
        at=f"{PATIENCE}:Retrying.until_answered",
        old="if not may_go_well_later(error):",
        new="if False:",
        tests=(f"{OUT}::test_a_bug_in_a_statement_is_raised",),
    ),
    Mutant(
        name="growing-pauses",
        promise="P2",
        takes_out="waiting longer each time Postgres is asked again",
        at=f"{PATIENCE}:Retrying.until_answered",
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
        at=f"{PAST}:RunHistory.result",
        old=(
            "return self._retrying.ask(\n"
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
        at=f"{PAST}:RunHistory.beat",
        old="self._database.outage.notice(error)",
        new="raise error",
        tests=(f"{OUT}::test_a_heartbeat_in_an_outage_lets_the_handler_go_on",),
    ),
    Mutant(
        name="what-was-heard-is-remembered",
        promise="P2",
        takes_out="remembering the last pulse",
        at=f"{PAST}:RunHistory.beat",
        old="self._heartbeat = heartbeat.beat(connection, claim, text)",
        new="return heartbeat.beat(connection, claim, text)",
        tests=(f"{OUT}::test_a_cancel_that_was_heard_before_the_outage_is_not_forgotten",),
    ),
    Mutant(
        name="claims-left-to-the-audit-are-given-back",
        promise="P2",
        takes_out="giving back at the next audit what a worker has left to it",
        at=f"{LIVENESS}:WorkerLease._audit",
        old="is_left = one.fence in seen_before or one.token_id in left_to_audit",
        new="is_left = one.fence in seen_before and not left_to_audit",
        tests=(
            f"{OUT}::test_a_worker_whose_patience_is_over_gives_the_claim_back_once_postgres_answers",
        ),
    ),
    Mutant(
        name="refused-claims-are-not-kept",
        promise="P2",
        takes_out="giving the claim back of a unit that cannot be recorded",
        at=f"{SETTLE}:Committer._drop",
        old="self._claims.release_for_later(claim)",
        new="",
        tests=(f"{OUT}::test_a_unit_that_stands_in_the_journal_already_is_not_kept",),
    ),
    Mutant(
        name="told-to-exit-in-an-outage",
        promise="P4",
        takes_out="exiting though the claim could not be given back",
        at=f"{ENGINE}:Engine._abandon",
        old="except DatabaseUnavailable: self._liveness.leave_to_audit(claim.token.id)",
        new="finally: pass",
        tests=(f"{OUT}::test_a_process_that_is_told_to_exit_in_an_outage_exits",),
    ),
    Mutant(
        name="a-cut-transaction-is-no-failure",
        promise="P6",
        takes_out="telling a cut transaction from a handler that failed",
        at=f"{TRANSACTIONAL}:Transactional._commit",
        old="if (cut := cut_of(connection, error, is_done=is_done)) is not None:",
        new="if (cut := None) is not None:",
        tests=(
            f"{OUT}::test_a_transactional_step_that_cannot_be_recorded_now_is_executed_again",
            f"{EACH_STATEMENT}[transactional-after]",
        ),
    ),
    Mutant(
        name="a-cut-before-the-commit-counts",
        promise="P5",
        takes_out="counting the cut of a transaction whose step has ended",
        at=f"{TRANSACTIONAL}:cut_of",
        old="counts=not is_done",
        new="counts=False",
        tests=(f"{ROLLED}::test_a_step_whose_connection_is_cut_each_time_is_not_tried_for_ever",),
    ),
    Mutant(
        name="another-database-is-not-ours",
        promise="P12",
        takes_out="telling our own database from another that a function asks",
        at="celery_durable.workflow.execute:_guarded",
        old="if error.is_given_up and is_tried_once:",
        new="if is_tried_once:",
        tests=(
            "tests/unit/test_execute_failures.py::test_another_database_that_does_not_answer_a_function_between_steps_is_its_failure",
        ),
    ),
    Mutant(
        name="a-handlers-connection-that-was-cut",
        promise="P6",
        takes_out="looking whether the connection of a handler that failed was cut",
        at=f"{TRANSACTIONAL}:Transactional.execute",
        old="elif connection.was_cut(execution.exception):",
        new="elif False:",
        tests=(f"{EACH_STATEMENT}[transactional-before]",),
    ),
    Mutant(
        name="the-unexpected-is-shown-once",
        promise="P12",
        takes_out="showing once what comes again and again",
        at="celery_durable.process.outage:Outage.goes_on",
        old="type(error) is not self._logged",
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
        old="self._last_logged if is_same else None",
        new="None",
        tests=(f"{UNIT}::test_threads_that_notice_one_by_one_say_it_once",),
    ),
    Mutant(
        name="an-outage-after-a-hindrance-is-told",
        promise="P12",
        takes_out="saying that Postgres is away where it was only hindered before",
        at=f"{OUTAGE}:Shared.notice",
        old="if self._last_logged in (words, self._words):",
        new="if self._last_logged is not None:",
        tests=(f"{UNIT}::test_postgres_that_could_not_and_then_is_away_is_told_as_both",),
    ),
    Mutant(
        name="a-hindrance-is-no-outage",
        promise="P12",
        takes_out="telling a Postgres that cannot do something now from one that is away",
        at=f"{OUTAGE}:Shared.notice",
        old="words = HINDERED if is_there else self._words",
        new="words = self._words",
        tests=(
            f"{UNIT}::test_postgres_that_answers_and_cannot_is_not_said_to_be_away",
            f"{OUT}::test_a_renewal_that_postgres_cannot_do_now_is_done_later",
        ),
    ),
    Mutant(
        name="a-relay-outlives-an-exit",
        promise="P2",
        takes_out="going on after a SystemExit that somebody's code raises in the relay's thread",
        at="celery_durable.background.relay:Relay._work",
        old="except (Exception, SystemExit) as error:",
        new="except Exception as error:",
        tests=(f"{RUNNING}::test_a_relay_goes_on_whatever_a_transport_raises",),
    ),
    Mutant(
        name="a-chore-outlives-an-exit",
        promise="P2",
        takes_out="going on after a SystemExit in a relay's chore",
        at="celery_durable.background.relay:Chore._once",
        old="except (Exception, SystemExit) as error:",
        new="except Exception as error:",
        tests=(f"{CHORES}::test_a_chore_goes_on_whatever_is_raised_in_it",),
    ),
    Mutant(
        name="a-renewal-outlives-an-exit",
        promise="P5",
        takes_out="going on after a SystemExit in a thread that keeps a worker alive",
        at=f"{LIVENESS}:WorkerLease._attempt",
        old="except (Exception, SystemExit) as error:",
        new="except Exception as error:",
        tests=(
            "tests/integration/test_liveness.py::test_an_exit_that_is_raised_in_a_renewal_does_not_end_the_renewing",
        ),
    ),
    Mutant(
        name="a-lost-process-is-a-warning",
        promise="P12",
        takes_out="saying in one line that a process has ended, whose message comes again",
        at=f"{REQUEST}:LastingRequest.on_failure",
        old="return_ok = True",
        new="pass",
        tests=(
            f"{OF_REQUEST}::test_a_process_that_ends_costs_one_line_of_warning_and_its_message_comes_again",
        ),
    ),
    Mutant(
        name="an-acknowledgement-lost-is-no-alarm",
        promise="P12",
        takes_out="expecting that a lost connection takes acknowledgements with it",
        at=f"{REQUEST}:LastingRequest.acknowledge",
        old="self._on_ack(CalmLogger, self._connection_errors)",
        new="self._on_ack(logger, self._connection_errors)",
        tests=(f"{OF_REQUEST}::test_an_acknowledgement_that_a_lost_connection_takes_is_no_alarm",),
    ),
    Mutant(
        name="threads-stop-at-once-without-an-alarm",
        promise="P12",
        takes_out="knowing that nothing ends a thread from outside",
        at=f"{REQUEST}:LastingRequest.cancel",
        old="raise SystemExit(EX_FAILURE) from None",
        new="raise",
        tests=(f"{OF_REQUEST}::test_a_cold_shutdown_of_threads_is_no_unrecoverable_error",),
    ),
    Mutant(
        name="giving-up-is-a-warning",
        promise="P12",
        takes_out="telling what a handler has decided from what went wrong",
        at="celery_durable.engine.failure_log:fate_of",
        old="isinstance(exception, GiveUp) and token.rollback is None",
        new="False",
        tests=(f"{LOGGED}::test_a_handler_that_gives_up_is_a_warning_in_one_line",),
    ),
    Mutant(
        name="an-undo-given-up-is-an-error",
        promise="P12",
        takes_out="raising an alarm of what is left undone",
        at="celery_durable.engine.failure_log:fate_of",
        old="isinstance(exception, GiveUp) and token.rollback is None",
        new="isinstance(exception, GiveUp)",
        tests=(f"{LOGGED}::test_a_compensator_that_gives_up_is_an_error",),
    ),
    Mutant(
        name="a-final-failure-is-logged",
        promise="P3",
        takes_out="asking the journal whether a commit that is refused had been made",
        at="celery_durable.engine.commit:Committer.continue_with",
        old="if isinstance(answer, ClaimLost) and self._was_written(claim, decision):",
        new="if False:",
        tests=(
            "tests/integration/test_unknown_outcome.py::test_a_final_failure_whose_answer_was_lost_is_logged",
        ),
    ),
    Mutant(
        name="a-row-that-costs-connections-is-at-fault",
        promise="P2",
        takes_out="setting a row aside for which the broker ends each connection",
        at="celery_durable.worker.publisher:KombuPublisher._may_be_a_row",
        old="return self._confirms is not None and not isinstance(error, Blocked)",
        new="return False",
        tests=(
            f"{ON_RABBITMQ}::test_a_row_that_costs_each_connection_is_set_aside_and_the_others_go",
        ),
    ),
    Mutant(
        name="an-outage-blames-no-row",
        promise="P2",
        takes_out="the message that a broker must take before a row is at fault",
        at="celery_durable.worker.publisher:KombuPublisher._publish_alone",
        old="self._prove_that_it_is_there(before)",
        new="self._connect_anew(before)",
        tests=(
            f"{ON_RABBITMQ}::test_a_way_to_the_broker_that_breaks_at_every_message_blames_no_row",
        ),
    ),
)
