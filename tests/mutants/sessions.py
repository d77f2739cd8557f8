"""The mutants of what a connection, a database and a role are like."""

from tests.mutants.mutant import Mutant

OPENING = "celery_durable.database.opening"

SETTINGS = "tests/integration/test_session_settings.py"
KINDS = "tests/integration/test_database_kinds.py"

SESSIONS = (
    Mutant(
        name="sessions-are-settled",
        promise="P12",
        takes_out="setting what our statements rely on",
        at=f"{OPENING}:_set_if_ours",
        old="sa.func.set_config(setting, wanted, sa.false())",
        new="now",
        tests=(
            f"{SETTINGS}::test_a_run_goes_through_whatever_a_role_sets[DateStyle]",
            f"{SETTINGS}::test_a_run_goes_through_whatever_a_role_sets[search_path]",
        ),
    ),
    Mutant(
        name="read-committed",
        promise="P3",
        takes_out="setting the isolation of our transactions",
        at=f"{OPENING}:REQUIRED",
        old='"default_transaction_isolation": "read committed",',
        new="",
        tests=(f"{SETTINGS}::test_our_transactions_are_read_committed",),
    ),
    Mutant(
        name="recorded-is-not-lost",
        promise="P3",
        takes_out="waiting for the disk where the role does not",
        at=f"{OPENING}:LASTING",
        old='"synchronous_commit": "on"',
        new='"synchronous_commit": "off"',
        tests=(
            f"{SETTINGS}::test_a_handler_that_shares_our_transaction_has_the_timeouts_and_the_path_of_its_role",
        ),
    ),
    Mutant(
        name="handlers-have-their-roles-timeouts",
        promise="P6",
        takes_out="leaving a handler's session the timeouts of its role",
        at="celery_durable.database.connections:Database._engine_of_handlers",
        old="return self._handlers_engine",
        new="return self.engine",
        tests=(
            f"{SETTINGS}::test_a_handler_that_shares_our_transaction_has_the_timeouts_and_the_path_of_its_role",
        ),
    ),
    Mutant(
        name="encodings-are-looked-at",
        promise="P12",
        takes_out="refusing a database that cannot hold every text",
        at=f"{OPENING}:configure_session",
        old='row["encoding"] != "UTF8"',
        new="False",
        tests=(f"{KINDS}::test_a_database_that_cannot_hold_every_text_is_refused",),
    ),
    Mutant(
        name="rights-are-looked-at",
        promise="P12",
        takes_out="looking at a worker's start for what its role may not do",
        at="celery_durable.database.schema:check",
        old="rights.check(SqlAlchemyConnection(connection, schema), VERSION_TABLE)",
        new="pass",
        tests=(f"{KINDS}::test_one_right_that_is_missing_is_named",),
    ),
    Mutant(
        name="what-is-refused-has-failed",
        promise="P12",
        takes_out="recording as failed what Postgres will not store",
        at="celery_durable.store.sqlstates:raise_if_unstorable",
        old='if (error.sqlstate or "").startswith(UNSTORABLE):',
        new="if False:",
        tests=(f"{KINDS}::test_a_result_that_postgres_refuses_is_a_failure_of_its_unit",),
    ),
    Mutant(
        name="long-channels",
        promise="P2",
        takes_out="shortening a channel's name",
        at="celery_durable.database.notify:channel",
        old="if len(name.encode()) <= LONGEST_CHANNEL:",
        new="if True:",
        tests=(f"{KINDS}::test_a_schema_may_be_called_as_postgres_allows[long]",),
    ),
)
