"""The demo: every order ends, the books are checked, and nothing is left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from examples.demo.ledger import DONE, FAILED, REFUSED, Entry
from examples.demo.orders import STEPS, Ending, ending
from examples.demo.verdict import Verdict, judge
from tests.addresses import ROOT, conninfo
from tests.brokers.examples import broker_of, environment_in, need_demo_extra, passable_folder
from tests.forms import short_or_long
from tests.waiting import wait_until

ENDS_WITHIN = 120.0
RUNS = 8

needs_postgres = pytest.mark.usefixtures("embedded_is_installed")


@pytest.fixture
def embedded_is_installed() -> None:
    need_demo_extra()


class Demo:
    """A demo in a process of its own, with a folder where it puts its folder."""

    def __init__(self, folder: Path, output: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.demo", "--runs", str(RUNS)],
                cwd=ROOT,
                env=environment_in(folder, environment),
                stdout=file,
                stderr=file,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output, timeout=60, message=lambda: self.output)

    def end(self, number: signal.Signals | None = None) -> int:
        """The exit code, after a signal if one is given."""
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(ENDS_WITHIN)

    def left_running(self) -> list[str]:
        """Processes that know the demo's folder: servers by their command, others by TMPDIR."""
        return [each for process in psutil.process_iter() if (each := self._command(process))]

    def _command(self, process: psutil.Process) -> str:
        """How a process of ours was started; nothing for others, and for what ends meanwhile."""
        with suppress(psutil.Error):
            command = process.cmdline()
            known = [*command, process.environ().get("TMPDIR", "")]
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            if not is_zombie and any(str(self.folder) in each for each in known):
                return " ".join(command)
        return ""

    def assert_nothing_is_left(self) -> None:
        wait_until(lambda: not self.left_running(), message=lambda: str(self.left_running()))
        assert list(self.folder.iterdir()) == []

    def counts(self) -> dict[str, str]:
        """The table at the end."""
        return dict(re.findall(r"│ ([a-z ]+?) +│ +(\S+(?: s)?) │", self.output))

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        if self._process.poll() is None:
            self.end(signal.SIGKILL)


Run = Callable[..., Demo]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a demo with these environment variables."""
    with ExitStack() as demos:

        def start(**environment: str) -> Demo:
            folder = demos.enter_context(passable_folder())
            demo = Demo(folder, tmp_path / "output", environment)
            demos.callback(demo.kill)
            return demo

        yield start


@needs_postgres
@pytest.mark.parametrize("name", short_or_long(["rabbitmq"], ["own", "redis", "rabbitmq"]))
def test_every_order_ends_though_the_broker_forgets_and_a_worker_is_killed(
    name: str, run: Run, request: pytest.FixtureRequest
) -> None:
    """The short form leaves a Redis of its own to `tox -e demo`."""
    demo = run(**broker_of(name, request))
    assert demo.end() == 0, demo.output
    counts = demo.counts()
    assert int(counts.pop("messages lost")) > 0
    assert int(counts.pop("duplicates refused")) > 0
    assert float(counts.pop("time to take over").removesuffix(" s")) > 0
    # Seven orders of five steps; one of three steps, and their undos.
    wanted = {"runs": "8", "completed": "7", "compensated": "1", "steps": "41", "kills": "1"}
    assert counts == wanted
    assert "8 charges and 1 refund, each made once" in demo.output
    demo.assert_nothing_is_left()


@needs_postgres
def test_it_ends_with_1_when_the_books_miss_a_run_and_double_another(
    run: Run, database_url: str
) -> None:
    demo = run(DURABLE_DATABASE_URL=database_url)
    with psycopg.connect(conninfo(database_url), autocommit=True) as connection:
        schema = wait_until(lambda: schema_of_demo(connection), timeout=60)
        assert schema is not None
        ledger = Identifier(schema, "ledger")
        wait_until(lambda: confirmed(connection, ledger) >= 2, timeout=60)
        tamper(connection, ledger)
        assert demo.end() == 1, demo.output
        assert "has no legal ending. Done for it: nothing." in demo.output
        assert "book was executed twice, though process 0" in demo.output
        assert "each made once" not in demo.output
        assert schema_of_demo(connection) is None
    demo.assert_nothing_is_left()


def schema_of_demo(connection: psycopg.Connection) -> str | None:
    text = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'ledger'"
    row = connection.execute(text).fetchone()
    return row[0] if row else None


def confirmed(connection: psycopg.Connection, ledger: Identifier) -> int:
    text = SQL("SELECT count(*) FROM {} WHERE unit = 'confirm'").format(ledger)
    row = connection.execute(text).fetchone()
    return int(row[0]) if row else 0


def tamper(connection: psycopg.Connection, ledger: Identifier) -> None:
    """Take the first confirmed order out of the books, and let a unit of the second run twice."""
    text = SQL("SELECT run_id FROM {} WHERE unit = 'confirm' ORDER BY id LIMIT 2").format(ledger)
    (missing,), (doubled,) = connection.execute(text).fetchall()
    connection.execute(SQL("DELETE FROM {} WHERE run_id = %s").format(ledger), [missing])
    twice = SQL("""
        INSERT INTO {} (run_id, unit, idempotency_key, attempt, worker_pid, parent_pid, outcome)
        SELECT run_id, unit, idempotency_key, attempt, 0, 0, 'refused' FROM {},
        generate_series(1, 2) WHERE run_id = %s AND unit = 'book'
    """)
    connection.execute(twice.format(ledger, ledger), [doubled])


STOPS = [
    (signal.SIGINT, "two workers start"),
    (signal.SIGHUP, "celery_durable"),
    (signal.SIGTERM, "the broker loses everything"),
]


@needs_postgres
@pytest.mark.parametrize(
    ("number", "at"),
    short_or_long(STOPS[:2], STOPS),
)
def test_a_demo_that_is_stopped_leaves_nothing_running(
    number: signal.Signals, at: str, run: Run
) -> None:
    demo = run()
    demo.wait_for(at)
    assert demo.end(number) == 128 + number
    assert "Traceback" not in demo.output
    demo.assert_nothing_is_left()


@needs_postgres
def test_workers_do_not_outlive_a_demo_that_is_killed(run: Run) -> None:
    demo = run()
    demo.wait_for("placed at once")
    demo.end(signal.SIGKILL)
    wait_until(lambda: not demo.left_running(), message=lambda: str(demo.left_running()))


AWAY = [
    ({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}, "127.0.0.1:1"),
    ({"DURABLE_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/x"}, "127.0.0.1"),
    ({"DURABLE_DATABASE_URL": "sqlite://"}, "must be a Postgres URL"),
]
"""The first is for the short form; the examples have the second."""


@pytest.mark.parametrize(
    ("variables", "told"),
    short_or_long(AWAY[:1], AWAY),
)
@needs_postgres
def test_a_service_that_is_not_there_is_named(
    variables: dict[str, str], told: str, run: Run
) -> None:
    demo = run(**variables)
    assert demo.end() == 1
    assert told in demo.output
    assert "Traceback" not in demo.output
    demo.assert_nothing_is_left()


# The verdict, on books that are written here.

RUN = UUID(int=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORKER, CHILD, OTHER = 100, 101, 200
ALL = [(unit, DONE) for unit in STEPS]


def books(calls: Sequence[tuple[str, str]], pids: Mapping[int, int] | None = None) -> list[Entry]:
    """Calls of one run, a second apart, by `CHILD` unless `pids` names another by position."""
    made = []
    for number, (unit, outcome) in enumerate(calls):
        child = (pids or {}).get(number, CHILD)
        at = NOON + timedelta(seconds=number)
        parent = WORKER if child == CHILD else OTHER
        made.append(Entry(number, at, RUN, unit, f"key of {unit}", 1, child, parent, outcome))
    return made


def judged(entries: Sequence[Entry], killed: Mapping[int, datetime] | None = None) -> Verdict:
    return judge({RUN: 1}, entries, killed or {})


def test_a_run_that_did_every_step_once_is_completed() -> None:
    verdict = judged(books(ALL))
    assert (verdict.problems, verdict.endings) == ([], {Ending.COMPLETED: 1})
    assert (verdict.charges, verdict.refunds, verdict.steps) == (1, 0, 5)


@pytest.mark.parametrize(
    "units",
    [
        [],
        ["reserve", "charge"],
        ["charge", "reserve", "book", "ship", "confirm"],
        ["reserve", "charge", "charge", "book", "ship", "confirm"],
        ["reserve", "charge", "charge#compensate"],
        ["reserve", "charge", "reserve#compensate", "charge#compensate"],
        ["reserve", "charge", "charge#compensate", "charge#compensate", "reserve#compensate"],
    ],
)
def test_what_is_missing_doubled_or_out_of_order_is_no_legal_ending(units: list[str]) -> None:
    assert ending(units) is None
    assert "no legal ending" in judged(books([(unit, DONE) for unit in units])).problems[0]


def test_a_run_that_was_undone_in_reverse_order_is_compensated() -> None:
    assert ending(["reserve", "charge", "charge#compensate", "reserve#compensate"]) == "compensated"


def test_a_unit_executed_again_because_its_worker_was_killed_in_it_is_no_fault() -> None:
    calls = [*ALL[:2], ("charge", REFUSED), *ALL[2:]]
    entries = books(calls, dict.fromkeys(range(2, 6), OTHER + 1))
    verdict = judged(entries, {WORKER: NOON + timedelta(seconds=1.5)})
    assert (verdict.problems, verdict.refused, verdict.take_over) == ([], 1, 0.5)


def test_a_unit_executed_again_by_workers_that_live_is_a_fault() -> None:
    calls = [*ALL[:2], ("charge", REFUSED), *ALL[2:]]
    verdict = judged(books(calls, dict.fromkeys(range(2, 6), OTHER + 1)))
    assert "charge was executed twice, though process 101" in verdict.problems[0]


def test_a_unit_executed_again_after_it_was_recorded_is_a_fault() -> None:
    calls = [*ALL[:3], ("charge", REFUSED), *ALL[3:]]
    entries = books(calls, dict.fromkeys(range(2, 6), OTHER + 1))
    verdict = judged(entries, {WORKER: NOON})
    assert "charge was executed twice, though it had been recorded" in verdict.problems[0]


def test_a_failure_that_is_not_followed_by_the_next_attempt_is_a_fault() -> None:
    verdict = judged(books([("reserve", FAILED), *ALL]))
    assert "reserve was executed twice" in verdict.problems[0]


def test_calls_of_a_run_nobody_started_are_a_fault() -> None:
    stranger = uuid4()
    verdict = judge({stranger: 1, RUN: 2}, books(ALL), {})
    assert "Order 1" in verdict.problems[0]
    assert str(RUN) in judge({}, books(ALL), {}).problems[0]
