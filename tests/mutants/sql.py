"""The mutants of what SQL and users' own models have: starts, inputs, models."""

from tests.mutants.mutant import Mutant

MODELS = "celery_durable.models"
STARTS = "tests/integration/test_sql_start.py"
INPUTS = "tests/integration/test_sql_input_models.py"
USED = "tests/integration/test_models.py"
PLANS = "tests/integration/test_model_plans.py"

SQL = (
    Mutant(
        name="settings-for-sql-are-stored-anew",
        promise="P10",
        takes_out="storing a plan again whose app has another queue or limit",
        at="celery_durable.store.definitions:_STORE",
        old="where=_stored != _excluded,",
        new="where=t.definition.c.plan != _insert.excluded.plan,",
        tests=(f"{STARTS}::test_the_app_s_queue_is_that_of_a_run_started_in_sql",),
    ),
    Mutant(
        name="an-input-from-sql-is-checked",
        promise="P12",
        takes_out="checking an input that was not checked at the start",
        at="celery_durable.workflow.execute:_execute",
        old="if workflow.input is not None and not claim.run.input.startswith(INSTANCE):",
        new="if False:",
        tests=(
            f"{INPUTS}::test_handlers_and_compensators_get_the_model",
            f"{INPUTS}::test_an_input_that_does_not_fit_fails_the_run_before_a_handler_is_called",
        ),
    ),
    Mutant(
        name="a-model-refuses-to-be-changed",
        promise="P12",
        takes_out="looking at what a flush would change of a model",
        at=f"{MODELS}:_refuse_update",
        old="session is not None and session.is_modified(target, include_collections=False)",
        new="session is None",
        tests=(f"{USED}::test_a_flush_that_would_write_is_refused_and_says_what_to_call",),
    ),
    Mutant(
        name="a-status-is-looked-up-by-its-index",
        promise="P11",
        takes_out="asking for the stored status of a model too",
        at=f"{MODELS}:_Status",
        old="sa.and_(column == stored[0] if len(stored) == 1 else column.in_(stored), found)",
        new="found if column is not None else stored",
        tests=(f"{PLANS}::test_runs_are_found_by_an_index",),
    ),
)
