"""The migrations, and what they make of a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from celery_durable import Durable
from celery_durable.database import schema
from celery_durable.errors import SchemaOutOfDate
from celery_durable.store.connection import SCHEMA
from celery_durable.store.tables import metadata
from tests.integration.driving import World, all_at_once, defining, make_durable

CONSTRAINTS = """
SELECT conrelid::regclass::text AS table, conname, replace(pg_get_constraintdef(oid), :schema, '')
FROM pg_constraint WHERE connamespace = cast(:name AS regnamespace)
    AND conrelid::regclass::text NOT LIKE '%version' ORDER BY 1, 2
"""
INDEXES = """
SELECT indexname, replace(indexdef, :schema, '') FROM pg_indexes WHERE schemaname = :name
    AND tablename NOT LIKE '%version' ORDER BY 1
"""
COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, replace(column_default, :schema, ''),
    is_identity
FROM information_schema.columns WHERE table_schema = :name AND table_name NOT LIKE '%version'
    AND table_name NOT IN (SELECT viewname FROM pg_views) ORDER BY 1, 2
"""
FUNCTIONS = """
SELECT proname, replace(prosrc, :schema, '') FROM pg_proc
WHERE pronamespace = cast(:name AS regnamespace)
"""
SEQUENCES = """
SELECT sequencename, data_type::text, start_value, max_value, cycle FROM pg_sequences
WHERE schemaname = :name ORDER BY 1
"""


def described(engine: sa.Engine, query: str, name: str) -> list[Any]:
    with engine.connect() as connection:
        rows = connection.execute(sa.text(query), {"name": name, "schema": f"{name}."})
        return [tuple(str(value).replace(f"{name}.", "") for value in row) for row in rows]


def test_alembic_sees_no_difference_between_the_migrations_and_the_tables(
    engine: sa.Engine,
) -> None:
    schema.migrate(engine, SCHEMA)

    def ours(name: str | None, type_: str, _: object) -> bool:
        return type_ != "schema" or name == SCHEMA

    def not_the_version_table(_: object, name: str | None, *__: object) -> bool:
        return name != schema.VERSION_TABLE

    with engine.connect() as connection:
        options = {
            "include_schemas": True,
            "include_name": ours,
            "include_object": not_the_version_table,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(
    "query", [CONSTRAINTS, INDEXES, COLUMNS, SEQUENCES], ids=["checks", "indexes", "columns", "seq"]
)
def test_the_migrations_make_what_the_tables_declare(engine: sa.Engine, query: str) -> None:
    """CHECK constraints and predicates too, which Alembic does not compare."""
    schema.migrate(engine, "migrated")
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("declared"))
        metadata.create_all(connection.execution_options(schema_translate_map={SCHEMA: "declared"}))

    migrated = described(engine, query, "migrated")
    assert migrated == described(engine, query, "declared")
    assert len(migrated) > 0


def test_migrating_twice_changes_nothing(engine: sa.Engine) -> None:
    schema.migrate(engine, "public")
    before = described(engine, COLUMNS, "public")
    schema.migrate(engine, "public")
    assert described(engine, COLUMNS, "public") == before
    schema.check(engine, "public")


def test_many_may_migrate_at_once(engine: sa.Engine) -> None:
    all_at_once([partial(schema.migrate, engine, "public") for _ in range(4)])
    schema.check(engine, "public")


def test_a_migration_that_fails_leaves_nothing(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE durable_worker (id integer)"))
    with pytest.raises(sa.exc.ProgrammingError, match="already exists"):
        schema.migrate(engine, "public")
    assert {name for _, name, *_ in described(engine, COLUMNS, "public")} == {"id"}


def test_a_downgrade_leaves_nothing_of_ours(engine: sa.Engine) -> None:
    schema.migrate(engine, "public")
    config = our_migrations()
    with engine.begin() as connection:
        connection.execution_options(schema_translate_map={SCHEMA: "public"})
        config.attributes.update(connection=connection, schema="public")
        command.downgrade(config, "base")
    left = sa.inspect(engine)
    assert left.get_table_names() == [schema.VERSION_TABLE]
    assert left.get_sequence_names() == left.get_view_names() == []
    assert described(engine, FUNCTIONS, "public") == []

    schema.migrate(engine, "public")
    schema.check(engine, "public")


def test_the_hot_tables_have_room_and_an_eager_autovacuum(engine: sa.Engine) -> None:
    schema.migrate(engine, "public")
    query = "SELECT reloptions FROM pg_class WHERE oid = to_regclass(:name)"
    with engine.connect() as connection:
        token = connection.execute(sa.text(query), {"name": "durable_token"}).scalar_one()
        outbox = connection.execute(sa.text(query), {"name": "durable_outbox"}).scalar_one()
    assert "fillfactor=50" in token
    assert "autovacuum_vacuum_scale_factor=0" in outbox


def test_a_missing_schema_is_named_with_its_remedy(engine: sa.Engine) -> None:
    """P12"""
    with pytest.raises(
        SchemaOutOfDate, match=r"'public' does not exist.*durable migrate"
    ) as caught:
        schema.check(engine, "public")
    assert (caught.value.schema, caught.value.found) == ("public", None)
    assert caught.value.expected == schema.HEAD


def test_an_old_schema_is_named_with_its_remedy(engine: sa.Engine) -> None:
    """P12"""
    schema.migrate(engine, "public")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE durable_alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaOutOfDate, match="at revision 0000; this release needs") as caught:
        schema.check(engine, "public")
    assert caught.value.found == "0000"


@pytest.fixture
def elsewhere(empty_database_url: str) -> Iterator[tuple[World, Durable]]:
    with closing(World(empty_database_url)) as world:
        durable = world.worker(defining([], "a", "b"), schema="Else Where", inline_steps=1)
        durable.migrate()
        yield world, durable


def test_everything_works_in_another_schema(elsewhere: tuple[World, Durable]) -> None:
    world, durable = elsewhere
    run = durable.start("w", {}, key="k")
    cancelled = durable.start("w", {}, delay=60)
    cancelled.cancel(reason="no")
    while hints := world.rows(
        'DELETE FROM "Else Where".durable_outbox WHERE available_at IS NULL RETURNING token_id'
    ):
        for hint in hints:
            durable.engine.advance(hint["token_id"])
    durable.recover()

    assert run.status().status == "completed"
    assert cancelled.status().status == "cancelled"
    assert durable.start("w", {}, key="k") == run
    assert len(durable.list()) == 2
    assert world.rows("SELECT to_regclass('public.durable_run') AS found") == [{"found": None}]


def test_two_schemas_of_one_database_know_nothing_of_each_other(
    elsewhere: tuple[World, Durable],
) -> None:
    world, durable = elsewhere
    other = make_durable(world.url, defining([], "a"))
    other.create_tables()
    run = other.start("w", {}, key="k")

    assert durable.list() == []
    assert durable.start("w", {}, key="k") != run
    other.database.close()


def test_the_revision_that_is_needed_is_the_last_migration() -> None:
    assert ScriptDirectory.from_config(our_migrations()).get_current_head() == schema.HEAD


def our_migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", schema.MIGRATIONS)
    return config
