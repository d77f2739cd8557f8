"""What the benchmark makes of its readings."""

import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import chart, counts, fanout, few, linear, processor, targets
from benchmarks.compare import rates, ratios
from benchmarks.contenders import DBOS, Contender, celery, floor, ours, single
from benchmarks.processes import ContenderFailed, Process, WorkMissing
from benchmarks.processor import Processor, Roles
from benchmarks.rounds import Row, Trial
from benchmarks.section import Section
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


def test_the_best_of_ours_is_of_those_with_default_settings() -> None:
    rows = [
        row(ours("RabbitMQ"), 4),
        row(ours("RabbitMQ", "threads", 8), 2),
        row(single(ours("RabbitMQ")), 1),
        row(DBOS, 40),
        row(floor(2, 4), 8, workers=2),
    ]
    found = linear.figures(rows)
    assert found["linear: DBOS"] == 20
    assert found["linear: floor, prefork"] == 2
    assert found["linear: processor"] == 0.5
    assert found["linear: absurd"] is None


def test_few_together_are_held_against_one_token_a_message() -> None:
    def together(contender: Contender, *each: float) -> Row:
        readings = [Reading({"each": [one], "units": 1, "seconds": 1}, Processor()) for one in each]
        return Row(Trial(contender, few.what(16), take), readings)

    rows = [together(few.OURS, 0.3, 0.6), together(single(few.OURS), 1, 2)]
    section = few.section(rows)
    assert section.figures == {"few: 16 together": 0.3}
    assert [cells[2] for cells in section.rows] == ["0.30", ""]


def test_what_is_counted_is_divided_by_the_units_and_may_be_unknown() -> None:
    answer = {"units": 1000, "statements": 150, "messages": None, "seconds": 1}
    counted = Row(Trial(counts.OURS, counts.ITEM, take), [Reading(answer, Processor())])
    assert counts.per_unit(counted, "statements") == 0.15
    assert counts.per_unit(counted, "messages") is None


def section_of(**figures: float) -> Section:
    return Section(title="", columns=(), rows=[], figures=figures)


def test_targets_are_held_against_what_was_measured_and_the_others_are_left_out() -> None:
    found = targets.section(
        [section_of(**{"linear: DBOS": 21.0}), section_of(**{"linear: processor": 0.46})]
    )
    assert [cells[1:] for cells in found.rows] == [
        ("21.00x", "at least 20x", "yes"),
        ("0.46x", "at most 0.45x", "NO"),
    ]
    assert not targets.section([]).rows


def test_every_target_has_a_figure_of_its_own_that_a_part_hands_back() -> None:
    handed = [*linear.figures([]), *fanout.figures([], 100), *fanout.figures([], 1000)]
    handed += fanout.figures([], 10_000)
    asked = [target.figure for target in targets.TARGETS]
    assert len(set(asked)) == len(asked)
    from_rows = {one for one in asked if one.startswith(("linear", "fan-out"))}
    assert from_rows <= {*handed}


PROGRAM = """
from benchmarks.programs.wire import expect, serve

class Client:
    def check(self):
        expect(9, 10, "rows")

    def stumble(self):
        raise ValueError("no")

serve(Client())
"""


def test_a_client_says_whether_work_is_missing(tmp_path: Path) -> None:
    client = Process([sys.executable, "-c", PROGRAM], tmp_path / "log", answers=True)
    try:
        with pytest.raises(WorkMissing, match="rows: found 9, expected 10"):
            client.ask(30, do="check")
        with pytest.raises(ContenderFailed, match="ValueError: no") as raised:
            client.ask(30, do="stumble")
        assert not isinstance(raised.value, WorkMissing)
    finally:
        client.end()


def test_memory_is_that_of_a_process_with_its_children() -> None:
    own = processor.memory([os.getpid()])
    assert own
    assert all(0 < share <= resident for share, resident in own)


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
