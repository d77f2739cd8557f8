"""The project of examples/django_shop as developers and operators use it: real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import load_command_class

from tests.addresses import ROOT, conninfo
from tests.cluster import LocalProcess
from tests.cluster.process import environment
from tests.contrib.projects import SHOP, variables_of
from tests.services import RedisServer
from tests.transports import RedisBroker
from tests.waiting import wait_until


class Project:
    """The project on a database of its own, for this process and for processes of its own."""

    def __init__(self, url: str, env: Mapping[str, str], logs: Path) -> None:
        self.url = url
        self.env = env
        self._logs = logs
        self._database = psycopg.connect(conninfo(url), autocommit=True)
        self.workers: list[LocalProcess] = []

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder, to its end."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=SHOP,
            env=environment(self.env),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def worker(self) -> LocalProcess:
        """`celery -A shop worker`, as somebody types it in the project's folder."""
        command = [sys.executable, "-m", "celery", "-A", "shop", "--workdir", str(SHOP), "worker"]
        command += ["-Q", self.env["SHOP_QUEUE"], "-c", "2", "-l", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        name = f"worker{len(self.workers)}"
        process = LocalProcess(command, name=name, directory=self._logs, env=self.env)
        self.workers.append(process)
        process.start()
        wait_until(lambda: " ready." in process.log, timeout=60, message=lambda: process.log)
        return process

    def log(self) -> str:
        return "".join(worker.log for worker in self.workers)

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        cursor = self._database.execute(statement.encode(), parameters)
        return [] if cursor.description is None else cursor.fetchall()

    def is_shipped(self, order: int) -> bool:
        """True if the order has a parcel, and its run has ended."""
        ended = "SELECT count(*) FROM durable_run WHERE key = %s AND status = 'completed'"
        return self.query(ended, f"order-{order}") == [(1,)] and self.parcels(order) == 1

    def parcels(self, order: int) -> int:
        ((count,),) = self.query("SELECT count(*) FROM orders_parcel WHERE order_id = %s", order)
        return int(count)

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self._database.close()


@pytest.fixture(scope="module")
def project(
    django_database_url: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    with closing(RedisBroker(redis_server.url, redis_server.node)) as broker:
        env = {
            **broker.env(),
            **variables_of(django_database_url),
            "SHOP_QUEUE": broker.queue(),
            "PYTHONPATH": f"{SHOP}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        logs = tmp_path_factory.mktemp("shop")
        with closing(Project(django_database_url, env, logs)) as found:
            yield found


@pytest.fixture
def client(project: Project, shop: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Somebody on the other side of the site."""
    from django.test import Client  # noqa: PLC0415

    found = replace(shop.durable.settings, queue=project.env["SHOP_QUEUE"])
    monkeypatch.setitem(vars(shop.durable), "settings", found)
    vars(shop.durable).pop("run_factory", None)
    yield Client(headers={"host": "testserver"})
    vars(shop.durable).pop("run_factory", None)


@pytest.fixture
def found_app(client: Any, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app of the shop is the current one, as in a process of its own."""
    monkeypatch.setattr("celery_durable.contrib.django.project.current_app", shop.app)


def placed_and_paid(client: Any, times: int = 1) -> int:
    order = int(client.post("/orders/", {"item": "lamp"}, "application/json").json()["order"])
    for _ in range(times):
        client.post("/payments/webhook/", {"order": order, "id": "p1"}, "application/json")
    return order


@pytest.mark.timeout(300)
def test_an_order_that_is_placed_and_paid_is_shipped_though_a_worker_is_killed(
    project: Project, client: Any
) -> None:
    """P5, P6, P7: through views, a signal, the ORM in a step, and kill -9 before its commit."""
    project.query(
        "CREATE TABLE gate (); CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN LOCK TABLE gate IN SHARE MODE; RETURN NEW; END $$;"
        " CREATE TRIGGER held BEFORE INSERT ON orders_parcel FOR EACH ROW EXECUTE FUNCTION held()"
    )
    doomed = project.worker()
    with psycopg.connect(conninfo(project.url)) as gate:
        gate.execute("LOCK TABLE gate IN ACCESS EXCLUSIVE MODE")
        order = placed_and_paid(client, times=2)
        stuck = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO \"orders_parcel\"%%'"
        )
        wait_until(lambda: project.query(stuck), timeout=60, message=project.log)
        doomed.end()
        gate.rollback()
    assert not project.is_shipped(order)
    project.worker()

    wait_until(lambda: project.is_shipped(order), timeout=60, message=project.log)
    assert project.parcels(order) == 1
    assert "Traceback" not in project.workers[-1].log
    project.query("DROP FUNCTION held CASCADE; DROP TABLE gate")


def test_two_orders_on_one_worker_are_shipped_once_each(project: Project, client: Any) -> None:
    if not project.workers or not project.workers[-1].is_running:
        project.worker()
    orders = [placed_and_paid(client) for _ in range(2)]
    for order in orders:
        wait_until(lambda order=order: project.is_shipped(order), message=project.log)  # type: ignore[misc]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("words", [("manage.py", "test"), ("-m", "pytest", "-q")])
def test_the_projects_own_tests_pass_and_leave_nothing(
    project: Project, words: tuple[str, ...]
) -> None:
    """P12: with Django's own runner and with pytest-django; in the project's database is no row
    more, and the test's database is gone."""
    before = project.query("SELECT count(*), max(id::text) FROM durable_run")
    done = project.python(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.query("SELECT count(*), max(id::text) FROM durable_run") == before
    name = f"test_{project.env['SHOP_DATABASE']}"
    assert project.query("SELECT datname FROM pg_database WHERE datname = %s", name) == []


def test_manage_durable_ends_with_the_exit_codes_of_the_command_line(
    found_app: None, capfd: pytest.CaptureFixture[str]
) -> None:
    command = load_command_class("celery_durable.contrib.django", "durable")
    with pytest.raises(SystemExit) as ended:
        command.run_from_argv(["manage.py", "durable", "lst", "--settings", "shop.settings"])
    assert ended.value.code == 2
    assert "No such command 'lst'" in capfd.readouterr().err


def test_hints_are_typed_as_django_has_it(
    found_app: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    from django.core.management import CommandError, call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM durable_relay")  # another test may have seen one
    with pytest.raises(CommandError):
        call_command("durable", "show", "01a2267b-7b5d-732e-9386-4ef8d06392dc")
    said = "".join(capfd.readouterr())
    assert "`python manage.py durable list`" in said
    assert "celery -A" not in said
    call_command("durable", "doctor")
    assert "python manage.py durable relay" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        (("list", "--json"), 0, "["),
        (("show", "01a2267b-7b5d-732e-9386-4ef8d06392dc"), 3, "No run"),
        (("start", "fulfil", "{"), 2, "JSON"),
    ],
)
def test_the_commands_can_be_called_from_code(
    found_app: Any,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    printed: str,
) -> None:
    from django.core.management import CommandError, call_command  # noqa: PLC0415

    ended = 0
    try:
        call_command("durable", *words)
    except CommandError as error:
        ended = error.returncode
    assert ended == code
    assert printed in "".join(capfd.readouterr())
