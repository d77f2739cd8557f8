"""What `durable dev` takes where something is there already: a database, a broker, a port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests.contrib.projects import SHOP as DJANGO_SHOP
from tests.contrib.projects import variables_of
from tests.dev.projects import SHOP, dev, project, wait_until_up
from tests.dev.running import PATIENCE, Running
from tests.integration.driving import make_durable
from tests.transports import RedisBroker
from tests.waiting import wait_until

pytest.importorskip("pgmq", reason="the pgmq extra is not installed")

pytestmark = pytest.mark.timeout(600)  # four interpreters are started, again and again

NO_BROKER = "amqp://guest:secret@127.0.0.1:1//"


def embedded_servers(started: Running) -> list[psutil.Process]:
    return [one for one in started.children() if one.name() == "postgres"]


def a_run_ends(url: str, queue: str = "durable") -> None:
    durable = make_durable(url, queue=queue)
    run = durable.start("order", {"item": "lamp", "price": 7})
    run.resume("signoff")
    assert run.result(timeout=PATIENCE)["charge"] == {"charged": 7}
    durable.database.close()


def test_a_database_and_a_broker_that_answer_are_used(
    empty_database_url: str, redis_broker: RedisBroker
) -> None:
    queues = f'app.conf.durable_queue = "{redis_broker.queue()}"\n'
    queues += f'app.conf.task_default_queue = "{redis_broker.queue("celery")}"\n'
    with project() as folder:
        (folder / "shop.py").write_text(SHOP.replace("durable = D", f"{queues}durable = D"))
        urls = {"DURABLE_DATABASE_URL": empty_database_url, "CELERY_BROKER_URL": redis_broker.url}
        with dev(folder, own=urls) as started:
            wait_until_up(started)
            a_run_ends(empty_database_url, queue=redis_broker.queue())
            assert "embedded" not in started.text
            assert not embedded_servers(started)


def test_a_broker_that_does_not_answer_is_replaced_with_a_word(empty_database_url: str) -> None:
    urls = {"DURABLE_DATABASE_URL": empty_database_url, "CELERY_BROKER_URL": NO_BROKER}
    with project() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with dev(folder, "--port", str(port), own=urls) as started:
            url = wait_until_up(started)
            started.wait_for(rf"port {port} is taken: the page takes \d+$")
            assert f":{port}/" not in url
            why = r"since the configured one does not answer, amqp://guest:\*\*@127\.0\.0\.1:1"
            started.wait_for(rf"broker: an embedded Postgres in \.durable, {why}")
            a_run_ends(empty_database_url)
            assert "database:" not in started.text
            assert "secret" not in started.text


def test_a_database_that_does_not_answer_is_not_replaced() -> None:
    url = "postgresql://postgres:secret@127.0.0.1:1/shop"
    with project() as folder, dev(folder, own={"DURABLE_DATABASE_URL": url}) as started:
        assert started.wait() == 4
        assert "Postgres cannot be reached" in started.text
        assert "secret" not in started.text
        started.wait_until_nothing_lives()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that others cannot enter")
def test_root_keeps_the_data_where_postgres_can_reach_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with project(tmp_path) as folder, dev(folder) as started:
        where = Path(started.wait_for(r"whose data are kept in (/var/tmp/\S+)$")[1])
        try:
            wait_until_up(started)
            assert where.stat().st_mode & 0o077 == 0o011
            started.send(signal.SIGTERM)
            assert started.wait() == 0
        finally:
            shutil.rmtree(where)


def test_a_django_project_has_its_own_database(empty_database_url: str) -> None:
    with project() as folder:
        shutil.copytree(DJANGO_SHOP, folder, dirs_exist_ok=True)
        (folder / "shop.py").unlink()
        command = [sys.executable, "manage.py", "durable", "dev"]
        own = {**variables_of(empty_database_url), "CELERY_BROKER_URL": NO_BROKER}
        with dev(folder, command=command, own=own) as started:
            wait_until_up(started)
            assert "database:" not in started.text
            durable = make_durable(empty_database_url)
            run = durable.start("fulfil", {"order": 1})
            wait_until(lambda: run.status().current, timeout=PATIENCE)
            durable.database.close()
            started.send(signal.SIGTERM)
            assert started.wait() == 0
            started.wait_until_nothing_lives()
