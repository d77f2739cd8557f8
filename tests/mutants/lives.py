"""The mutants of what a worker's processes are told, and of what their end counts as."""

from tests.mutants.mutant import Mutant

LIFECYCLE = "celery_durable.worker.lifecycle"
ENGINE = "celery_durable.engine"
WORKERS = "celery_durable.store.workers"

LIFE = "tests/integration/test_worker_life.py"

LIVES = (
    Mutant(
        name="children-that-register-late-are-told",
        promise="P5",
        takes_out="saying again that the worker stops",
        at=f"{LIFECYCLE}:Lifecycle._say_it_stops",
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
        at=f"{LIFECYCLE}:Lifecycle._hear_of_cold_shutdown",
        old="self._on_stopping()\nwait()",
        new="wait()",
        tests=(f"{LIFE}::test_a_soft_shutdown_is_told_before_it_waits",),
    ),
    Mutant(
        name="cold-shutdown-on-solo",
        promise="P5",
        takes_out="ending the step in hand before the solo pool raises an error in it",
        at=f"{LIFECYCLE}:Lifecycle._hear_of_cold_shutdown",
        old="if process.surroundings(self._app).pool == SOLO:",
        new="if False:",
        tests=(f"{LIFE}::test_a_cold_shutdown_ends_a_step_on_the_solo_pool",),
    ),
    Mutant(
        name="ended-from-outside-is-no-crash",
        promise="P5",
        takes_out="knowing what Celery raises in a step that must end",
        at=f"{ENGINE}:Engine._go_on",
        old="isinstance(error, self._exits) or is_told_to_exit(error)",
        new="is_told_to_exit(error)",
        tests=(f"{LIFE}::test_a_step_that_is_ended_from_outside_has_not_crashed",),
    ),
    Mutant(
        name="suspects-one-at-a-time",
        promise="P5",
        takes_out="keeping units apart that may have killed their process",
        at=f"{ENGINE}:Engine._take_turn",
        old="return self._do_suspect(turn) if claim.token.crashes else self._do(turn)",
        new="return self._do(turn)",
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
        at="celery_durable.recovery:FORGET_WORKERS_BATCH",
        old="FORGET_WORKERS_BATCH = 5000",
        new="FORGET_WORKERS_BATCH = 500",
        tests=(f"{LIFE}::test_recovery_forgets_more_workers_than_can_end_in_its_pauses",),
    ),
)
