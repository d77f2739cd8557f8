"""The mutants of what tells an operator how things are."""

from tests.mutants.mutant import Mutant

SELF_TEST = "celery_durable.database.self_test"
POPULATION = "celery_durable.core.population"
FLEET = "celery_durable.store.read.fleet"
EXAMINATION = "celery_durable.worker.examination"
DOCTOR = "tests/integration/test_doctor.py"
PRESENT = "tests/integration/test_fleet.py"

EXAMINING = (
    Mutant(
        name="locks-are-tried-as-a-reaper-does",
        promise="P5",
        takes_out="looking whether both URLs lead to one database",
        at=f"{SELF_TEST}:lock_test",
        old="if _takes(reaper, _PROBE, number):",
        new="if False:",
        tests=(f"{DOCTOR}::test_two_urls_that_lead_to_two_databases",),
    ),
    Mutant(
        name="locks-are-tried-by-another",
        promise="P5",
        takes_out="looking whether a lock is refused to a second session",
        at=f"{SELF_TEST}:lock_test",
        old="if _takes(PsycopgConnection(second, database.schema), _TAKE, number):",
        new="if False:",
        tests=(f"{DOCTOR}::test_a_server_that_gives_a_lock_to_two",),
    ),
    Mutant(
        name="doctor-does-not-hang",
        promise="P12",
        takes_out="giving a question up that is not answered",
        at=f"{EXAMINATION}:Asked.answer",
        old="self._thread.join(self._within)",
        new="self._thread.join()",
        tests=(f"{DOCTOR}::test_a_database_and_a_broker_that_take_connections_and_say_nothing",),
    ),
    Mutant(
        name="who-hangs-does-not-live",
        promise="P5",
        takes_out="the probe's look at processes that have not renewed in time",
        at=f"{POPULATION}:living",
        old="if one.state is WorkerState.OVERDUE:",
        new="if False:",
        tests=(
            "tests/unit/test_doctor.py::test_one_process_that_hangs_is_not_made_good_by_another",
        ),
    ),
    Mutant(
        name="counts-are-bounded",
        promise="P11",
        takes_out="the end of counting what waits in a queue",
        at=f"{FLEET}:_of_queue",
        old=".limit(_limit)",
        new="",
        tests=(f"{PRESENT}::test_counting_stops_at_the_bound",),
    ),
    Mutant(
        name="plain-waits-are-not-asked-for",
        promise="P11",
        takes_out="leaving out of the sample what waits for something",
        at="celery_durable.store.read.standstill:_COUNTS",
        old="_oldest.filter(_waits_for_nothing)",
        new="_oldest",
        tests=(f"{DOCTOR}::test_runs_are_counted_by_what_they_wait_for",),
    ),
)
