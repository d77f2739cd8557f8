"""The mutants of the test kit: what it shows must be what a worker would do."""

from tests.mutants.mutant import Mutant

KIT = "celery_durable.testing"

HARNESS = "tests/integration/test_harness.py"
CRASHES = "tests/integration/test_crash_everywhere.py"
EAGER = "tests/integration/test_eager.py"
RESET = "tests/integration/test_reset.py"

TEST_KIT = (
    Mutant(
        name="kit-beside-a-worker",
        promise="P12",
        takes_out="refusing a database on which a worker is alive",
        at=f"{KIT}.lease:refuse_company",
        old='connection.rows(_COMPANY, {"pool": POOL})',
        new="()",
        tests=(
            f"{HARNESS}::test_a_live_worker_is_refused",
            f"{EAGER}::test_nothing_is_started_beside_a_live_worker",
        ),
    ),
    Mutant(
        name="kit-eager-beside-a-worker",
        promise="P12",
        takes_out="refusing it before anything is started",
        at=f"{KIT}.eager:Eager.__init__",
        old="refuse_company(connection)",
        new="pass",
        tests=(f"{EAGER}::test_nothing_is_started_beside_a_live_worker",),
    ),
    Mutant(
        name="kit-times-in-order",
        promise="P2",
        takes_out="executing what comes due on the way before later things",
        at=f"{KIT}.courier:Courier._passing",
        old="is not None and due_in < seconds",
        new="is not None and False",
        tests=(f"{HARNESS}::test_what_comes_due_on_the_way_is_executed_in_order",),
    ),
    Mutant(
        name="kit-attempts-grow-old",
        promise="P2",
        takes_out="letting time pass for failed attempts",
        at=f"{KIT}.clock:_ageing",
        old="if table is t.token:",
        new="if False:",
        tests=(f"{HARNESS}::test_skipped_backoffs_use_up_the_time_for_which_a_unit_is_tried",),
    ),
    Mutant(
        name="kit-deadlines",
        promise="P12",
        takes_out="ending runs whose deadlines have passed",
        at=f"{KIT}.courier:Courier._pass",
        old="enforce(connection, BATCH)",
        new="pass",
        tests=(f"{HARNESS}::test_deadlines_of_runs_strike_when_their_time_has_passed",),
    ),
    Mutant(
        name="kit-death-keeps-the-claim",
        promise="P5",
        takes_out="leaving the claim as it is when the worker of a test dies",
        at=f"{KIT}.engine:WatchedEngine._abandon",
        old="if not isinstance(error, Death):",
        new="if True:",
        tests=(f"{CRASHES}::test_a_death_is_counted_and_taken_over_as_that_of_a_worker",),
    ),
    Mutant(
        name="kit-second-calls",
        promise="P3",
        takes_out="comparing the results of a handler that is called twice",
        at=f"{KIT}.crashes:Doom.differing",
        old="if other != texts[0]:",
        new="if False:",
        tests=(f"{CRASHES}::test_a_second_call_that_returns_something_else_is_found",),
    ),
    Mutant(
        name="kit-two-undisturbed-runs",
        promise="P3",
        takes_out="leaving out what differs between two undisturbed runs",
        at=f"{KIT}.crashes:Crashes._undisturbed",
        old="if second.units.get(unit) == text",
        new="if text",
        tests=(f"{CRASHES}::test_what_differs_from_run_to_run_is_not_compared",),
    ),
    Mutant(
        name="kit-nested-starts",
        promise="P7",
        takes_out="leaving a start within a handler to who executes the handler",
        at=f"{KIT}.eager:Eager.__call__",
        old="if not self.harness.is_at_work:",
        new="if True:",
        tests=(f"{EAGER}::test_a_handler_that_starts_a_run_does_not_execute_it",),
    ),
    Mutant(
        name="kit-joined-sessions",
        promise="P7",
        takes_out="executing when the session of the caller has committed",
        at=f"{KIT}.eager:Eager.joined",
        old="event.listen(*listener)",
        new="pass",
        tests=(f"{EAGER}::test_a_run_of_a_session_is_executed_when_that_commits",),
    ),
    Mutant(
        name="kit-eager-workers",
        promise="P12",
        takes_out="refusing a worker under task_always_eager",
        at="celery_durable.worker.configuration:check_configuration",
        old="refuse_eager(app)",
        new="pass",
        tests=(f"{EAGER}::test_a_worker_and_a_relay_are_refused",),
    ),
    Mutant(
        name="kit-reset-thaws",
        promise="P10",
        takes_out="reading the defaults of steps anew",
        at="celery_durable.worker.host:Host.reset",
        old="self.registry.thaw()",
        new="pass",
        tests=(f"{RESET}::test_defaults_of_steps_are_read_anew",),
    ),
)
