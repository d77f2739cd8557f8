"""Our migrations beside a user's own Alembic project in the same database."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from celery_durable.database import schema

ENV = """
import sqlalchemy as sa
from alembic import context
from celery_durable.store.tables import include_name

metadata = sa.MetaData()
sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True))
with context.config.attributes["engine"].connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        {options}
    )
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.fixture
def project(engine: sa.Engine, tmp_path: Path) -> Config:
    """A user's project with one table and its first revision, applied."""
    config = Config(str(tmp_path / "alembic.ini"))
    config.set_main_option("script_location", str(tmp_path / "alembic"))
    config.attributes["engine"] = engine
    command.init(config, str(tmp_path / "alembic"))
    write_env(config, "include_name=include_name")
    command.revision(config, "orders", autogenerate=True)
    command.upgrade(config, "head")
    return config


def write_env(config: Config, options: str) -> None:
    location = config.get_main_option("script_location")
    assert location is not None
    (Path(location) / "env.py").write_text(ENV.format(options=options))


def proposed(config: Config) -> str:
    """The body of the upgrade that autogenerate would write now."""
    revision = command.revision(config, "next", autogenerate=True)
    assert not isinstance(revision, list)
    assert revision is not None
    source = Path(revision.path).read_text()
    body = source.split("def upgrade() -> None:")[1].split("def downgrade()")[0]
    Path(revision.path).unlink()
    return body


def heads(config: Config) -> tuple[str, ...]:
    return tuple(ScriptDirectory.from_config(config).get_heads())


def test_both_have_a_version_table_of_their_own(engine: sa.Engine, project: Config) -> None:
    schema.migrate(engine, "public")

    tables = set(sa.inspect(engine).get_table_names())
    assert {"orders", "durable_run", "alembic_version", "durable_alembic_version"} <= tables
    with engine.connect() as connection:
        theirs = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars()
        ours = connection.execute(sa.text("SELECT version_num FROM durable_alembic_version"))
        assert tuple(theirs) == heads(project)
        assert ours.scalar_one() == schema.HEAD


def test_a_users_autogenerate_proposes_nothing_of_ours(engine: sa.Engine, project: Config) -> None:
    schema.migrate(engine, "public")
    assert "durable" not in proposed(project)


def test_without_include_name_it_would_drop_our_tables(engine: sa.Engine, project: Config) -> None:
    """What `include_name` is for; and the proof that the test above can fail."""
    schema.migrate(engine, "public")
    write_env(project, "")
    assert "op.drop_table('durable_run')" in proposed(project)


def test_a_users_downgrade_and_ours_do_not_meet(engine: sa.Engine, project: Config) -> None:
    schema.migrate(engine, "public")
    command.downgrade(project, "base")

    assert not sa.inspect(engine).has_table("orders")
    schema.check(engine, "public")
    command.upgrade(project, "head")
    schema.migrate(engine, "public")
    assert sa.inspect(engine).has_table("orders")
