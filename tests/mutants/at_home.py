"""The mutants of what is at home in Django."""

from tests.mutants.mutant import Mutant

DJANGO = "celery_durable.contrib.django"
TRANSACTION = f"{DJANGO}.transaction:DjangoTransaction"

TRANSACTIONAL = "tests/contrib/test_django_transactional.py"
JOINING = "tests/contrib/test_django_joining.py"
MIGRATIONS = "tests/contrib/test_django_migrations.py"

AT_HOME = (
    Mutant(
        name="django-joins-atomic",
        promise="P7",
        takes_out="joining the atomic block that is open",
        at=f"{DJANGO}.framework:DjangoFramework.open_transaction",
        old="return connection if is_open(connection) else None",
        new="return None",
        tests=(f"{JOINING}::test_a_savepoint_takes_its_starts_with_it",),
    ),
    Mutant(
        name="django-rolls-back-ours",
        promise="P7",
        takes_out="looking whether Django is going to roll back",
        at=f"{DJANGO}.transaction:DjangoConnection.rows",
        old="self.wrapper.validate_no_broken_transaction()",
        new="pass",
        tests=(f"{JOINING}::test_nothing_is_written_where_django_is_going_to_roll_back",),
    ),
    Mutant(
        name="joined-times-have-a-zone",
        promise="P7",
        takes_out="reading times of a caller's connection as ours",
        at="celery_durable.store.connection:JoinedConnection._cursor",
        old='cursor.adapters.register_loader("timestamptz", TimestamptzLoader)',
        new="pass",
        tests=(f"{JOINING}::test_times_have_a_zone_whatever_django_does_with_its_own",),
    ),
    Mutant(
        name="django-settings-have-one-address",
        promise="P12",
        takes_out="refusing a second address in Django's settings",
        at=f"{DJANGO}.framework:framework_of",
        old="if hasattr(django_settings, spelled):",
        new="if False:",
        tests=(f"{JOINING}::test_a_url_in_djangos_settings_is_refused",),
    ),
    Mutant(
        name="django-blocks-stay-open",
        promise="P6",
        takes_out="leaving the connection of an atomic block open",
        at=f"{DJANGO}.framework:DjangoFramework.around_units",
        old="if not connection.in_atomic_block:",
        new="if True:",
        tests=(f"{TRANSACTIONAL}::test_what_the_orm_wrote_is_committed_with_the_step",),
    ),
    Mutant(
        name="django-old-connections-are-closed",
        promise="P2",
        takes_out="closing connections that are too old around units",
        at="celery_durable.workflow.execute:execute",
        old="before_and_after = tools.around_units",
        new="before_and_after: Callable[[], None] | None = None",
        tests=(f"{JOINING}::test_a_connection_that_is_too_old_is_closed_around_a_unit",),
    ),
    Mutant(
        name="django-is-read-committed",
        promise="P3",
        takes_out="setting the isolation of a step's transaction",
        at=f"{TRANSACTION}.__init__",
        old='cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")',
        new="pass",
        tests=(
            f"{TRANSACTIONAL}::test_the_transaction_is_read_committed_and_lasting_whatever_django_says",
        ),
    ),
    Mutant(
        name="django-commits-last",
        promise="P3",
        takes_out="waiting for the disk where the role does not",
        at=f"{TRANSACTION}.end_handler",
        old="self.rows(_DURABLY)",
        new="pass",
        tests=(
            f"{TRANSACTIONAL}::test_the_transaction_is_read_committed_and_lasting_whatever_django_says",
        ),
    ),
    Mutant(
        name="django-was-committed",
        promise="P3",
        takes_out="telling an error of on_commit from one of the COMMIT",
        at=f"{TRANSACTION}.commit",
        old="if self._is_committed:",
        new="if False:",
        tests=(f"{TRANSACTIONAL}::test_an_on_commit_that_raises_is_logged_and_the_step_stands",),
    ),
    Mutant(
        name="django-has-no-async-transactions",
        promise="P6",
        takes_out="refusing an async handler in Django's transaction",
        at=f"{DJANGO}.connections:DjangoDatabase.refusal",
        old="inspect.iscoroutinefunction(inspect.unwrap(function) if callable(function) else None)",
        new="False",
        tests=(f"{TRANSACTIONAL}::test_an_async_handler_is_refused",),
    ),
    Mutant(
        name="django-replaces-dead-connections",
        promise="P2",
        takes_out="looking whether Django's idle connection is alive",
        at=f"{DJANGO}.connections:DjangoDatabase.session",
        old="not is_alive(connection.connection)",
        new="False",
        tests=(f"{TRANSACTIONAL}::test_an_idle_connection_that_the_server_has_ended_is_replaced",),
    ),
    Mutant(
        name="django-database-is-followed",
        promise="P12",
        takes_out="following Django into a test's database",
        at=f"{DJANGO}.connections:DjangoDatabase._pool_of_process",
        old="if place != self._place:",
        new="if False:",
        tests=(f"{MIGRATIONS}::test_the_tables_follow_django_into_a_tests_database",),
    ),
    Mutant(
        name="django-tables-are-in-one-database",
        promise="P12",
        takes_out="making tables in the configured alias only",
        at=f"{DJANGO}.revision:_durable_of",
        old="schema_editor.connection.alias == alias_of_project()",
        new="True",
        tests=(f"{MIGRATIONS}::test_another_alias_gets_no_tables",),
    ),
)
