"""The benchmark runs from end to end, with tiny numbers; how fast anything is, it does not ask."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.addresses import ROOT
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


def measured(postgres: PostgresServer, part: str, only: str, folder: Path) -> list[dict[str, Any]]:
    """What one contender's JSON says of the part, after a run that must succeed."""
    json_file, svg_file = folder / "bench.json", folder / "bench.svg"
    files = "--json", str(json_file), "--svg", str(svg_file)
    ended = run(postgres, part, *TINY, "--only", only, *files)
    assert ended.returncode == 0, ended.stderr
    assert only in ended.stdout
    assert ET.parse(svg_file).getroot().tag.endswith("svg")
    sections = json.loads(json_file.read_text())["sections"]
    records = [record for section in sections for record in section["record"]]
    assert [record["error"] for record in records] == [None] * len(records)
    return records


def test_the_floor_is_measured(postgres: PostgresServer, tmp_path: Path) -> None:
    (floor,) = measured(postgres, "linear", "floor, 1 x 8", tmp_path)
    (reading,) = floor["rounds"]
    assert reading["units"] >= 10
    assert set(reading["processor_seconds"]) == {"workers", "postgres", "broker", "client"}


def test_a_real_worker_is_measured(postgres: PostgresServer, tmp_path: Path) -> None:
    pytest.importorskip("pgmq", reason="the pgmq extra is not installed")
    (ours,) = measured(postgres, "linear", "ours, pgmq, threads 8", tmp_path)
    assert ours["rounds"][0]["units"] >= 10


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
        (["linear", "--only", "nobody"], "No contender has 'nobody' in its name."),
        (["linear", "--rounds", "0"], "0 is not in the range x>=1"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(
    postgres: PostgresServer, words: list[str], said: str
) -> None:
    ended = run(postgres, *words)
    assert ended.returncode != 0
    assert said in " ".join(ended.stderr.split())
