"""What the benchmark makes of its readings."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import chart, processor
from benchmarks.compare import rates, ratios
from benchmarks.contenders import Contender, celery, floor, ours
from benchmarks.processor import Processor, Roles
from benchmarks.rounds import Row, Trial
from benchmarks.session import Reading, Session

POSTMASTER, OWN, FOREIGN, WALWRITER, CLIENT, WORKER, CHILD = range(10, 17)
DATABASE = "bench_1234"


def take(_: Session) -> Reading:
    raise NotImplementedError


def row(contender: Contender, *seconds: float, workers: float = 1.0) -> Row:
    """So many rounds of 1,000 steps."""
    readings = [Reading({"units": 1000, "seconds": each}, Processor(workers)) for each in seconds]
    return Row(Trial(contender, "", take), readings)


def test_ours_are_held_against_the_others_in_each_round() -> None:
    rows = [row(ours("Redis"), 1, 2, 9, workers=3), row(celery("Redis"), 4, 4, 4)]
    rows.append(row(floor(1, 8), 1, 1, 1))
    against = {"chain": celery("Redis").name, "floor": floor(1, 8).name}
    table = ratios("linear", rows, against)
    assert table.columns == ("who", "chain", "floor")
    assert table.rows == [("ours, Redis, prefork 2", "2.00 / 3.00", "0.50 / 3.00")]


def test_who_failed_is_named_with_the_reason_and_held_against_nobody() -> None:
    failed = Row(Trial(floor(1, 8), "", take), error="no room")
    rows = [row(ours("Redis"), 1), failed]
    assert not ratios("linear", rows, {"floor": floor(1, 8).name}).rows
    table = rates("linear", "steps", rows)
    assert table.errors == [("floor, 1 x 8", "no room")]
    assert len(table.rows) == 1
    assert [bar.label for bar in table.bars] == ["ours, Redis, prefork 2"]


def test_a_chart_has_a_bar_for_each_row() -> None:
    table = rates("linear", "steps", [row(ours("Redis"), 1), row(floor(1, 8), 1)])
    drawn = ET.fromstring(chart.svg([table]))
    bars = [each for each in drawn.iter() if each.tag.endswith("rect") and each.get("rx")]
    assert len(bars) == 2


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `/proc` with a Postgres that others use too, a client and a worker with a child."""
    monkeypatch.setattr(processor, "PROC", tmp_path)
    present(tmp_path, POSTMASTER, parent=1, ticks=100, title="postgres -D data")
    present(tmp_path, OWN, POSTMASTER, 200, f"postgres: me {DATABASE} 127.0.0.1(1) idle")
    present(tmp_path, FOREIGN, POSTMASTER, 400, "postgres: me shop 127.0.0.1(2) idle")
    present(tmp_path, WALWRITER, POSTMASTER, 800, "postgres: walwriter")
    present(tmp_path, CLIENT, 1, 300)
    present(tmp_path, WORKER, 1, 50)
    present(tmp_path, CHILD, WORKER, 70)
    return tmp_path


def present(
    proc: Path, pid: int, parent: int, ticks: int, title: str = "", *, ended_children: int = 0
) -> None:
    """A process as proc_pid_stat(5) shows it; a tick is a hundredth of a second."""
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    before, after = f"{pid} (a (name) x) S {parent}" + " 0" * 9, " 0" * 30
    (folder / "stat").write_text(f"{before} {ticks} 0 {ended_children} 0{after}")
    (folder / "cmdline").write_text(title)


def roles(database: str | None) -> Roles:
    return Roles((WORKER,), POSTMASTER, broker=(), client=CLIENT, database=database)


@pytest.mark.usefixtures("machine")
def test_of_a_postgres_that_others_use_only_what_works_for_the_contender_counts() -> None:
    assert roles(None).look() == Processor(1.2, 15.0, None, 3.0)
    assert roles(DATABASE).look() == Processor(1.2, 10.0, None, 3.0)


def test_the_time_of_a_child_that_has_ended_is_not_lost(machine: Path) -> None:
    before = roles(None).look()
    (machine / str(FOREIGN) / "stat").unlink()
    present(machine, POSTMASTER, 1, 100, ended_children=400)
    assert roles(None).look().since(before) == Processor(0.0, 0.0, None, 0.0)
