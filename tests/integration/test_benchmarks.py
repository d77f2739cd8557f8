"""The benchmark runs from end to end, with tiny numbers; how fast anything is, it does not ask."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import psycopg
import pytest
from click.testing import CliRunner

from benchmarks import growth
from benchmarks.__main__ import main
from benchmarks.crowd import Crowd
from benchmarks.engine import plain
from benchmarks.processor import Roles
from tests.addresses import ROOT
from tests.forms import of_the_long_form
from tests.services import PostgresServer

TINY = ("--rounds", "1", "--seconds", "0.05")


def run(postgres: PostgresServer, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": postgres.admin_url},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def document(postgres: PostgresServer, part: str, only: str, folder: Path) -> dict[str, Any]:
    """The JSON of a run that must succeed."""
    json_file, svg_file = folder / "bench.json", folder / "bench.svg"
    files = "--json", str(json_file), "--svg", str(svg_file)
    ended = run(postgres, part, *TINY, "--only", only, *files)
    assert ended.returncode == 0, ended.stderr
    assert only in ended.stdout
    assert ET.parse(svg_file).getroot().tag.endswith("svg")
    found: dict[str, Any] = json.loads(json_file.read_text())
    return found


def measured(postgres: PostgresServer, part: str, only: str, folder: Path) -> list[dict[str, Any]]:
    """What the JSON says of the contenders in the part."""
    sections = document(postgres, part, only, folder)["sections"]
    records = [record for section in sections for record in section["record"]]
    assert [record["error"] for record in records] == [None] * len(records)
    return records


@of_the_long_form()
def test_the_floor_is_measured(postgres: PostgresServer, tmp_path: Path) -> None:
    (floor,) = measured(postgres, "linear", "floor, 1 x 8", tmp_path)
    (reading,) = floor["rounds"]
    assert reading["units"] >= 10
    assert set(reading["processor_seconds"]) == {"workers", "postgres", "broker", "client"}


def test_a_real_worker_is_measured(postgres: PostgresServer, tmp_path: Path) -> None:
    pytest.importorskip("pgmq", reason="the pgmq extra is not installed")
    (ours,) = measured(postgres, "linear", "ours, pgmq, threads 8", tmp_path)
    assert ours["rounds"][0]["units"] >= 10


def test_statements_of_the_floor_are_counted(postgres: PostgresServer, tmp_path: Path) -> None:
    (floor,) = measured(postgres, "counts", "floor, 2 x 4: a step", tmp_path)
    (reading,) = floor["rounds"]
    assert reading["units"] <= reading["statements"] < 1.1 * reading["units"]
    assert reading["wal"] > 100 * reading["units"]


@of_the_long_form()
def test_few_runs_together_are_measured(
    postgres: PostgresServer, rabbitmq: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", rabbitmq)
    together = measured(postgres, "few", "prefork 2: 4 together", tmp_path)
    assert together[0]["rounds"][0]["each"]


def test_small_runs_beside_slow_ones_are_measured(
    postgres: PostgresServer, rabbitmq: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", rabbitmq)
    beside = measured(postgres, "slow", "prefork 2: steps that sleep 20", tmp_path)
    assert len(beside[0]["rounds"][0]["small"]) == 4


def test_a_page_of_the_web_page_is_measured(postgres: PostgresServer, tmp_path: Path) -> None:
    (section,) = document(postgres, "page", "overview", tmp_path)["sections"]
    (overview,) = section["record"]
    assert overview["first"] > 0
    assert overview["kilobytes"] > 1


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database with the library's tables."""
    with postgres.migrated("bench_crowd") as name:
        yield postgres.url(name)


def test_a_crowd_is_in_the_database_and_older_than_what_is_measured(database: str) -> None:
    first = UUID(int=(time.time_ns() // 1_000_000) << 80)
    with plain(database) as connection:
        Crowd("waiting", 30).fill(connection)
        assert rows(connection, "durable_token WHERE wait = 'signal'") == 30
        connection.execute("TRUNCATE durable_run, durable_token")
        Crowd("finished", 100).fill(connection)
        assert rows(connection, "durable_run") == 10
        assert rows(connection, "durable_journal") == 90
        assert rows(connection, f"durable_run WHERE id >= '{first}'") == 0


def test_a_crowd_may_hold_its_snapshot(database: str) -> None:
    held = "pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid = "
    with (
        plain(database) as session,
        plain(database) as connection,
        Crowd("snapshot").present(session),
    ):
        assert rows(connection, held + str(session.info.backend_pid)) == 1


def test_the_last_steps_of_a_long_run_are_measured(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "TAIL", 5)
    monkeypatch.setattr(growth, "MANY", 40)
    costs = growth.compare(database, 2, Roles((), None, broker=(), client=os.getpid()))
    assert [len(cost.elapsed) for cost in costs] == [2] * 4
    with plain(database) as connection:
        assert rows(connection, "durable_run WHERE status = 'completed'") == 4 * 3
        assert rows(connection, "durable_journal") == 3 * (3 * (growth.FEW + 5) + 40)


def rows(connection: psycopg.Connection, of: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {of}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_a_contender_that_fails_is_named_with_the_reason(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1:1//")
    ended = run(postgres, "linear", *TINY, "--only", "ours, RabbitMQ, prefork 2")
    assert ended.returncode == 0, ended.stderr
    assert "no RabbitMQ answers at 127.0.0.1" in " ".join(ended.stdout.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "'nothing' is not one of 'linear', 'latency'"),
        (["linear", "--svg", "no/folder.svg"], "There is no folder no. Make it first."),
        (["linear", "--rounds", "0"], "0 is not in the range x>=1"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(words: list[str], said: str) -> None:
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.split())


def test_a_contender_that_is_not_there_is_named(postgres: PostgresServer) -> None:
    ended = run(postgres, "linear", "--only", "nobody")
    assert ended.returncode != 0
    assert "No contender has 'nobody' in its name." in " ".join(ended.stderr.split())
