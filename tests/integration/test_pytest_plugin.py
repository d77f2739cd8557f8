"""The fixtures of the pytest plugin, in a session of pytest of its own."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from celery_durable import ConfigurationError, Durable
from celery_durable.testing import plugin, pointing
from tests.addresses import ROOT, conninfo
from tests.services import PostgresServer

EXAMPLE = ROOT / "examples" / "tested"

CONFTEST = """
import pytest
import sqlalchemy as sa


@pytest.fixture(scope="session")
def durable_prepare():
    def prepare(url):
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE shelf (n int)")

    return prepare
"""

TESTS = """
import pytest
from examples.tested.shop import app, durable as shop, order


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_a_database_of_its_own(durable, durable_harness, durable_database_url, time):
    assert durable is shop
    assert durable.settings.database_url == durable_database_url
    assert durable.list() == []
    durable_harness.run(order, {"sku": "A1"})
    assert len(durable.list()) == 1
    with durable.database.autocommit() as connection:
        assert connection.raw.execute("SELECT count(*) FROM shelf").fetchone() == (0,)


def test_the_settings_are_put_back():
    assert app.conf.durable_database_url is None
    assert "settings" not in vars(shop)
"""

LOOK = """
import sys
import celery_durable.testing.plugin
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "celery_durable"))
print(*sorted({"celery", "kombu", "psycopg", "sqlalchemy"} & set(sys.modules)))
"""


def run(*words: str) -> str:
    """What a program in Python prints."""
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **alone},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def databases(postgres: PostgresServer) -> set[str]:
    with psycopg.connect(conninfo(postgres.admin_url)) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_nothing_is_loaded_until_a_fixture_is_used() -> None:
    ours, theirs = run("-c", LOOK).splitlines()
    assert ours.split() == ["celery_durable", "celery_durable.testing", plugin.__name__]
    assert theirs == ""


def test_the_fixtures_and_the_example_that_uses_them_work(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """The example has a careless step, and its tests find it."""
    before = databases(postgres)
    ini = (EXAMPLE / "pytest.ini").read_text() + f"durable_server_url = {postgres.admin_url}\n"
    files = {"conftest.py": CONFTEST, "test_fixtures.py": TESTS, "pytest.ini": ini}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "test_shop.py").write_text((EXAMPLE / "test_shop.py").read_text())
    options = [
        "-q",
        "-p",
        plugin.__name__,
        "-p",
        "no:cacheprovider",
        "-c",
        str(tmp_path / "pytest.ini"),
    ]
    output = run("-m", "pytest", *options, str(tmp_path))
    assert "8 passed" in output, output
    assert databases(postgres) <= before


def test_an_app_that_is_not_named_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointing, "current_app", Celery("plain", set_as_current=False))
    with pytest.raises(ConfigurationError, match="Set durable_app in the settings of pytest"):
        pointing.imported("")


def test_the_current_app_is_taken_where_none_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Celery("shop", set_as_current=False)
    Durable(app)
    monkeypatch.setattr(pointing, "current_app", app)
    assert pointing.imported("") is app


def test_an_app_without_durable_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a Celery app that has a Durable"):
        pointing.durable_of(Celery("plain", set_as_current=False))


def test_a_server_on_which_no_database_can_be_created_is_named() -> None:
    app = Celery("plain", set_as_current=False)
    server = PostgresServer("postgresql+psycopg://nobody:secret@127.0.0.1:1/nowhere")
    with (
        pytest.raises(ConfigurationError, match=r"needs CREATEDB: .*127\.0\.0\.1") as refused,
        pointing.template_of(Durable(app), server, print),
    ):
        raise AssertionError
    assert "secret" not in str(refused.value)


def test_pytest_finds_the_plugin_where_the_library_is_installed() -> None:
    found = {point.value for point in entry_points(group="pytest11", name="durable")}
    assert found == {plugin.__name__}
