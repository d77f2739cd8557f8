"""The mutants of a worker's processes: what they are told, what others see, what an end counts."""

from tests.mutants.mutant import Mutant

LIFECYCLE = "celery_durable.worker.lifecycle"
ADMIT = "celery_durable.core.admit"
LIVENESS = "celery_durable.background.liveness"
WORKERS = "celery_durable.store.workers"

TESTS = "tests/integration"
LIFE = f"{TESTS}/test_worker_life.py"
ALIVE = f"{TESTS}/test_liveness.py"
TAKEOVER = f"{TESTS}/test_takeover.py"
PROTOCOL = f"{TESTS}/test_protocol.py"
POOLER = "tests/brokers/test_transaction_pooler.py"

WORKING = (
    Mutant(
        name="children-that-register-late-are-told",
        promise="P5",
        takes_out="saying again that the worker stops",
        at=f"{LIFECYCLE}:Lifecycle._drain_until_the_end",
        old="if self._is_over.wait(DRAIN_EVERY):\n    return",
        new="return",
        tests=(
            f"{LIFE}::test_a_child_that_registers_after_its_worker_was_told_to_stop_is_told_too",
        ),
    ),
    Mutant(
        name="soft-shutdown-is-told",
        promise="P5",
        takes_out="saying that the worker stops before a soft shutdown waits",
        at=f"{LIFECYCLE}:Lifecycle._drain_before_soft_shutdown",
        old="self._on_stopping()\nwait()",
        new="wait()",
        tests=(f"{LIFE}::test_a_soft_shutdown_is_told_before_it_waits",),
    ),
    Mutant(
        name="cold-shutdown-on-solo",
        promise="P5",
        takes_out="ending the step in hand before the solo pool raises an error in it",
        at=f"{LIFECYCLE}:Lifecycle._drain_before_soft_shutdown",
        old="if process.surroundings(self._app).pool == SOLO:",
        new="if False:",
        tests=(f"{LIFE}::test_a_cold_shutdown_ends_a_step_on_the_solo_pool",),
    ),
    Mutant(
        name="ended-from-outside-is-no-crash",
        promise="P5",
        takes_out="knowing what Celery raises in a step that must end",
        at="celery_durable.worker.process:is_exit",
        old="isinstance(error, EXITS)",
        new="False",
        tests=(f"{LIFE}::test_a_step_that_is_ended_with_its_worker_has_not_crashed",),
    ),
    Mutant(
        name="whatever-a-handler-raises",
        promise="P5",
        takes_out="taking what is no Exception for a failure of the step",
        at="celery_durable.workflow.execute:_guarded",
        old="        return Execution(failed, without_engine_frames(error))\n",
        new="""        if not isinstance(error, Exception):
            raise
        return Execution(failed, without_engine_frames(error))
""",
        tests=("tests/unit/test_execute.py::test_whatever_else_a_handler_raises_is_its_failure",),
    ),
    Mutant(
        name="what-is-made-of-an-end",
        promise="P5",
        takes_out="knowing that the process ends, whatever a handler makes of that",
        at="celery_durable.worker.process:is_exit",
        old="_is_ending[0] or (",
        new="(",
        tests=(f"{LIFE}::test_what_a_step_makes_of_its_end_is_no_failure",),
    ),
    Mutant(
        name="forked-processes-end",
        promise="P4",
        takes_out="ending a process that a step forked where the step ends",
        at="celery_durable.workflow.forks:ending_others",
        old="if _generation != generation:",
        new="if False:",
        tests=(
            "tests/brokers/test_exits.py::test_a_process_that_a_step_forked_ends_where_the_step_does",
        ),
    ),
    Mutant(
        name="a-step-that-ends-its-process-crashes",
        promise="P5",
        takes_out="asking whether the whole worker stops",
        at="celery_durable.engine.loop:Engine._abandon",
        old="is_late or (must_exit and self._is_stopping(claim))",
        new="is_late or must_exit",
        tests=(f"{LIFE}::test_a_step_that_is_ended_while_its_worker_goes_on_has_crashed",),
    ),
    Mutant(
        name="a-worker-may-stop-a-little-later",
        promise="P5",
        takes_out="giving a worker time to say that it stops",
        at="celery_durable.engine.loop:Engine._is_stopping",
        old="if time.monotonic() >= until:",
        new="if True:",
        tests=(f"{LIFE}::test_a_step_that_is_ended_with_its_worker_has_not_crashed",),
    ),
    Mutant(
        name="limits-of-the-app-are-lifted",
        promise="P4",
        takes_out="lifting the pool's time limits from our messages",
        at="celery_durable.worker.limits:lift_limits",
        old="vars(result).update(_timeout=hard, _soft_timeout=soft)",
        new="pass",
        tests=(
            "tests/unit/test_limits.py::test_a_message_has_the_limits_that_it_names_and_no_others",
        ),
    ),
    Mutant(
        name="limits-wait-for-the-engine",
        promise="P2",
        takes_out="putting a time limit off while something must not be left in the middle",
        at="celery_durable.process.interrupts:held_off",
        old="was_open, _here.is_open = _here.is_open, False",
        new="was_open = _here.is_open",
        tests=(
            "tests/unit/test_interrupts.py::test_what_must_not_be_left_in_the_middle_is_done_first",
        ),
    ),
    Mutant(
        name="limits-wait-for-statements",
        promise="P2",
        takes_out="putting a time limit off while a connection is in use",
        at="celery_durable.database.connections:Database.autocommit",
        old="with interrupts.held_off():",
        new="if True:",
        tests=(
            "tests/integration/test_step_timeouts.py::test_a_limit_that_strikes_in_a_statement_waits_for_its_end",
        ),
    ),
    Mutant(
        name="limits-of-an-earlier-unit",
        promise="P4",
        takes_out="leaving a unit alone whose time is not up",
        at="celery_durable.process.interrupts:strike",
        old="if _here.until is None or time.monotonic() < _here.until:",
        new="if False:",
        tests=(
            "tests/unit/test_interrupts.py::test_a_limit_strikes_only_the_unit_whose_time_is_up",
        ),
    ),
    Mutant(
        name="a-late-claim-is-no-time-for-the-unit",
        promise="P4",
        takes_out="having a message sent again whose time has gone before its unit was claimed",
        at=f"{ADMIT}:_released_for",
        old="if facts.is_late:",
        new="if False:",
        tests=(
            "tests/integration/test_letting_go.py::test_a_message_with_a_limit_whose_claim_took_long_is_sent_again",
        ),
    ),
    Mutant(
        name="left-tasks-are-ended",
        promise="P4",
        takes_out="closing a loop in which something was left",
        at="celery_durable.workflow.loops:_run",
        old="is_clean = _is_clean(runner.get_loop(), name)",
        new="is_clean = True",
        tests=(
            "tests/unit/test_execute_async.py::test_nothing_that_an_async_handler_leaves_behind_goes_on",
        ),
    ),
    Mutant(
        name="async-steps-on-greenlets",
        promise="P5",
        takes_out="a thread of its own for each loop of a greenlet",
        at="celery_durable.workflow.loops:run",
        old="if threads_are_greenlets():",
        new="if False:",
        tests=(
            "tests/unit/test_loops_on_greenlets.py::test_coroutines_of_several_greenlets_wait_for_each_other",
        ),
    ),
    Mutant(
        name="killed-greenlets-end-their-coroutines",
        promise="P4",
        takes_out="cancelling a coroutine whose greenlet is killed",
        at="celery_durable.workflow.loops:_run_in_a_thread",
        old="loop.call_soon_threadsafe(_cancel_all, loop)",
        new="pass",
        tests=(
            "tests/unit/test_loops_on_greenlets.py::test_a_coroutine_whose_greenlet_is_killed_is_cancelled",
        ),
    ),
    Mutant(
        name="context-variables-end-with-the-unit",
        promise="P4",
        takes_out="the context of a unit's own",
        at="celery_durable.workflow.execute:execute",
        old="contextvars.copy_context().run(_guarded, workflow, claim, context, tools)",
        new="_guarded(workflow, claim, context, tools)",
        tests=(
            "tests/unit/test_execute_async.py::test_a_context_variable_set_by_one_handler_is_not_seen_by_the_next",
        ),
    ),
    Mutant(
        name="suspects-wait-for-undecided-claims",
        promise="P5",
        takes_out="waiting until others are given back before a suspect begins",
        at="celery_durable.engine.suspects:Suspects.turn",
        old="self._wait_for_others()",
        new="pass",
        tests=(f"{LIFE}::test_a_suspect_begins_once_no_other_claim_of_its_process_is_undecided",),
    ),
    Mutant(
        name="suspects-one-at-a-time",
        promise="P5",
        takes_out="keeping units apart that may have killed their process",
        at=f"{ADMIT}:_released_for",
        old="if facts.has_company:",
        new="if False:",
        tests=(
            f"{LIFE}::test_units_that_may_have_killed_their_process_run_one_at_a_time_in_another",
        ),
    ),
    Mutant(
        name="holders-are-remembered",
        promise="P5",
        takes_out="keeping the row of a worker in whose name something is claimed",
        at=f"{WORKERS}:_long_ended",
        old="sa.not_(sa.exists().where(t.token.c.claimed_by == t.worker.c.id)),",
        new="",
        tests=(
            f"{LIFE}::test_workers_that_ended_are_forgotten_when_nothing_is_claimed_in_their_name",
        ),
    ),
    Mutant(
        name="many-workers-are-forgotten-at-once",
        promise="P11",
        takes_out="a batch as large as the workers that may end between two looks",
        at="celery_durable.background.recovery:FORGET_WORKERS_BATCH",
        old="FORGET_WORKERS_BATCH = 5000",
        new="FORGET_WORKERS_BATCH = 500",
        tests=(f"{LIFE}::test_recovery_forgets_more_workers_than_can_end_in_its_pauses",),
    ),
)

SEEN_BY_OTHERS = (
    Mutant(
        name="a-lock-of-the-session",
        promise="P5",
        takes_out="keeping a worker's lock after the statement that takes it",
        at=f"{WORKERS}:_TAKE_LOCK",
        old="pg_try_advisory_lock",
        new="pg_try_advisory_xact_lock",
        tests=(f"{PROTOCOL}::test_a_worker_has_its_lock_before_it_has_a_row",),
    ),
    Mutant(
        name="a-lock-in-a-space-of-its-own",
        promise="P5",
        takes_out="the first of the two numbers of a worker's lock",
        at=f"{WORKERS}:_TAKE_LOCK",
        old="LOCK_SPACE, ",
        new="",
        tests=(f"{PROTOCOL}::test_a_worker_has_its_lock_before_it_has_a_row",),
    ),
    Mutant(
        name="each-schema-has-its-locks",
        promise="P5",
        takes_out="telling the locks of one schema from those of another",
        at=f"{WORKERS}:lock_space",
        old='f"durable_worker.{connection.schema}"',
        new='"durable_worker"',
        tests=(f"{ALIVE}::test_workers_of_two_schemas_share_no_lock",),
    ),
    Mutant(
        name="each-worker-has-its-number",
        promise="P5",
        takes_out="taking a lock's number from a sequence",
        at=f"{WORKERS}:new_lock_number",
        old='return int(row["number"])',
        new="return 1",
        tests=(f"{ALIVE}::test_every_worker_has_a_lock_of_its_own",),
    ),
    Mutant(
        name="locks-past-a-pooler",
        promise="P5",
        takes_out="holding a worker's lock on a connection past the pooler",
        at="celery_durable.database.connections:Database.dedicated",
        old="self._direct_address",
        new="self._address",
        tests=(f"{POOLER}::test_with_a_direct_url_a_killed_process_is_noticed_by_its_lock",),
    ),
    Mutant(
        name="no-lock-behind-a-pooler",
        promise="P5",
        takes_out="holding no lock where sessions are shared",
        at=f"{LIVENESS}:WorkerLease._take_new_lock",
        old="if not workers.is_direct(connection):",
        new="if False:",
        tests=(f"{POOLER}::test_without_a_direct_url_a_killed_process_is_noticed_by_its_ttl",),
    ),
    Mutant(
        name="registered-on-a-start-of-the-server",
        promise="P5",
        takes_out="saying as it registers on which start of the server a worker holds its lock",
        at=f"{WORKERS}:_REGISTER",
        old="server_started_at=SERVER_START",
        new="server_started_at=sql.clock",
        tests=(f"{TAKEOVER}::test_a_worker_whose_lock_is_free_is_reaped_at_once",),
    ),
    Mutant(
        name="a-probe-keeps-no-lock",
        promise="P5",
        takes_out="giving a lock back that was tried",
        at="celery_durable.store.dead_workers:_is_unlocked",
        old="pg_try_advisory_xact_lock",
        new="pg_try_advisory_lock",
        tests=(f"{PROTOCOL}::test_a_lock_that_was_found_free_is_free_for_the_next_who_looks",),
    ),
    Mutant(
        name="workers-renew-in-time",
        promise="P4",
        takes_out="renewing several times within the TTL",
        at=f"{LIVENESS}:RENEWALS_PER_TTL",
        old="RENEWALS_PER_TTL = 3",
        new="RENEWALS_PER_TTL = 0.02",
        tests=(f"{ALIVE}::test_a_worker_renews",),
    ),
    Mutant(
        name="a-renewal-revives-nobody",
        promise="P4",
        takes_out="renewing only the row of a worker that has not ended",
        at=f"{WORKERS}:_RENEW",
        old=", t.worker.c.ended_at.is_(None)",
        new="",
        tests=(f"{ALIVE}::test_neither_a_renewal_nor_a_lock_revives_a_worker_that_has_ended",),
    ),
    Mutant(
        name="a-lock-revives-nobody",
        promise="P4",
        takes_out="writing another lock only into the row of a worker that has not ended",
        at=f"{WORKERS}:_LOCK_IS_HERE",
        old=", t.worker.c.ended_at.is_(None)",
        new="",
        tests=(f"{ALIVE}::test_neither_a_renewal_nor_a_lock_revives_a_worker_that_has_ended",),
    ),
    Mutant(
        name="a-worker-says-that-it-stops",
        promise="P5",
        takes_out="saying that the worker stops when a signal tells it to",
        at=f"{LIFECYCLE}:Lifecycle._on_stopping",
        old="self._stop_requests.put(None)",
        new="pass",
        tests=(
            f"{LIFE}::test_a_child_that_registers_after_its_worker_was_told_to_stop_is_told_too",
        ),
    ),
    Mutant(
        name="a-child-of-one-that-stops",
        promise="P5",
        takes_out="asking, as a child registers, whether its worker stops",
        at=f"{WORKERS}:_REGISTER",
        old="t.worker.c.draining,",
        new="sa.false(),",
        tests=(f"{LIFE}::test_a_child_that_registers_beside_one_that_stops_begins_nothing",),
    ),
    Mutant(
        name="what-stops-begins-nothing",
        promise="P5",
        takes_out="beginning nothing once the worker was told to stop",
        at=f"{ADMIT}:_released_for",
        old="if claim.draining:",
        new="if False:",
        tests=(f"{TAKEOVER}::test_a_worker_that_was_told_to_stop_begins_nothing",),
    ),
    Mutant(
        name="leaving-is-no-crash",
        promise="P5",
        takes_out="sparing the units of a worker that left in good order",
        at=f"{WORKERS}:_END",
        old="draining=sa.true()",
        new="draining=t.worker.c.draining",
        tests=(f"{TAKEOVER}::test_a_worker_that_left_in_good_order_counts_no_crash",),
    ),
)

LIVES: tuple[Mutant, ...] = (*WORKING, *SEEN_BY_OTHERS)
