"""`manage.py migrate` makes the tables, in the database of the configured alias and only there."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from celery_durable.contrib.django.framework import DjangoFramework
from celery_durable.contrib.django.project import get_durable
from celery_durable.database import schema
from celery_durable.errors import SchemaOutOfDate
from celery_durable.store.tables import metadata
from tests.addresses import conninfo
from tests.contrib.projects import database_of
from tests.services import PostgresServer

REVISION = '''"""{doc}"""

from django.db import migrations

from celery_durable.contrib.django.revision import Revision


class Migration(migrations.Migration):
    atomic = False  # the library's own migration has a transaction of its own
    dependencies = [("durable", "{before}")]
    operations = [Revision("{revision}")]
'''


@pytest.fixture
def shops_durable(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Durable of the shop, found as in a process of its own."""
    monkeypatch.setattr("celery_durable.contrib.django.project.current_app", shop.app)
    vars(shop.durable).pop("database", None)
    yield shop.durable
    shop.durable.database.close()


@pytest.fixture
def empty(shops_durable: Any, empty_database_url: str) -> Iterator[str]:
    """An empty database, which is Django's default."""
    connections.close_all()  # what another test has left leads elsewhere
    connections["default"].settings_dict.update(database_of(empty_database_url))
    yield empty_database_url
    connections.close_all()


def tables(url: str) -> set[str]:
    """Our tables there, but for Alembic's."""
    with psycopg.connect(conninfo(url)) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'durable%'"
        ).fetchall()
    return {name for (name,) in found} - {schema.VERSION_TABLE}


def said(*words: str, **options: Any) -> str:
    out = StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def test_migrate_makes_the_tables_of_this_release(empty: str, shops_durable: Any) -> None:
    assert "Tables of celery_durable, revision 0001" in said("migrate", "durable", plan=True)
    assert tables(empty) == set()

    said("migrate", "durable")

    schema.check(shops_durable.database.engine, "public")
    assert tables(empty) == {table.name for table in metadata.sorted_tables}


def test_tables_that_are_there_already_stay_as_they_are(empty: str, shops_durable: Any) -> None:
    """For a project that has made them with `celery -A <app> durable migrate`."""
    shops_durable.migrate()
    with psycopg.connect(conninfo(empty)) as connection:
        connection.execute("INSERT INTO durable_definition VALUES ('w', 1, '{}')")

    said("migrate", "durable")

    with psycopg.connect(conninfo(empty)) as connection:
        assert connection.execute("SELECT workflow FROM durable_definition").fetchall() == [("w",)]


def test_a_migration_that_fails_leaves_nothing(empty: str, shops_durable: Any) -> None:
    """It is one transaction, on a connection that is one of autocommit otherwise."""
    with psycopg.connect(conninfo(empty)) as connection:
        connection.execute("CREATE TABLE durable_worker (id integer)")

    with pytest.raises(sa.exc.ProgrammingError, match="already exists"):
        said("migrate", "durable")

    assert tables(empty) == {"durable_worker"}


def test_taken_back_the_tables_are_gone_and_come_again(empty: str, shops_durable: Any) -> None:
    said("migrate", "durable")
    said("migrate", "durable", "zero")
    assert tables(empty) == set()
    with pytest.raises(SchemaOutOfDate):
        schema.check(shops_durable.database.engine, "public")
    said("migrate", "durable")
    schema.check(shops_durable.database.engine, "public")


def test_sqlmigrate_prints_sql_that_makes_the_same_tables(empty: str, shops_durable: Any) -> None:
    text = "\n".join(said("sqlmigrate", "durable", revision) for revision in schema.revisions())
    with psycopg.connect(conninfo(empty), autocommit=True) as connection:
        connection.execute(text.encode())
    assert tables(empty) == {table.name for table in metadata.sorted_tables}
    schema.check(shops_durable.database.engine, "public")


def test_makemigrations_finds_nothing_to_do(empty: str) -> None:
    assert "No changes detected" in said("makemigrations", "durable", check=True, dry_run=True)


def test_there_is_a_migration_for_each_of_the_librarys_own(shop: Any) -> None:
    """One that is missing is to be written into the folder as it is shown here."""
    loader = MigrationLoader(None)
    found = {
        operation.revision: name
        for (label, name), migration in loader.disk_migrations.items()
        if label == "durable"
        for operation in migration.operations
        if hasattr(operation, "revision")
    }
    names = schema.revisions()
    missing = [
        REVISION.format(doc="...", before=found.get(before, "..."), revision=revision)
        for before, revision in zip([None, *names], names, strict=False)
        if revision not in found
    ]
    assert not missing, "\n".join(missing)
    assert all(name.startswith(f"{revision}_") for revision, name in found.items())


def test_another_alias_gets_no_tables(
    postgres: PostgresServer, empty: str, shops_durable: Any
) -> None:
    """P12: two databases, and the tables are in the one that is configured."""
    with postgres.database("durable_test_django") as name:
        settings = connections["default"].settings_dict
        connections.settings["reports"] = {**settings, **database_of(postgres.url(name))}
        framework = shops_durable.framework
        try:
            said("migrate", "durable", database="reports")
            assert tables(postgres.url(name)) == set()

            shops_durable._framework = DjangoFramework(shops_durable, "reports")
            vars(shops_durable).pop("database", None)
            said("migrate", "durable", "zero", fake=True, database="reports")
            said("migrate", "durable", database="reports")
            assert len(tables(postgres.url(name))) > 5
            assert tables(empty) == set()
        finally:
            shops_durable.database.close()
            shops_durable._framework = framework
            vars(shops_durable).pop("database", None)
            connections.close_all()
            del connections["reports"]
            del connections.settings["reports"]


def test_the_tables_follow_django_into_a_tests_database(
    postgres: PostgresServer, empty: str, shops_durable: Any
) -> None:
    """P12: connections to the database that was there before are not used any more."""
    with postgres.database("durable_test_django") as name:
        shops_durable.migrate()
        assert shops_durable.list() == []
        connections["default"].settings_dict["NAME"] = name
        with pytest.raises(SchemaOutOfDate):
            shops_durable.list()
        said("migrate", "durable")
        assert shops_durable.list() == []
        shops_durable.database.close()
        connections.close_all()


def test_a_projects_durable_is_found_beside_its_settings(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nothing:
        """The current app of a process that has imported none."""

    monkeypatch.setattr("celery_durable.contrib.django.project.current_app", Nothing())
    assert get_durable() is shop.durable
