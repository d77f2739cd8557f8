"""The supervisor with commands of a line each: how they end, and what is left of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from celery_durable.dev.lines import Lines
from celery_durable.dev.supervisor import LONGEST_PAUSE, STEADY_SECONDS, Pauses
from tests.addresses import ROOT
from tests.dev.running import Running, running
from tests.waiting import wait_until

Start = Callable[..., Running]

UP = "echo up $$; exec sleep 600"
WITH_A_CHILD = "sleep 600 & echo child $!; echo up $$; wait"
STUBBORN = "trap 'echo no' TERM; echo up $$; while :; do sleep 0.1; done"


def program(**commands: str) -> list[str]:
    return [sys.executable, "-m", "tests.dev.program", json.dumps(commands)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "here").mkdir()
    with ExitStack() as stack:

        def started(**commands: str) -> Running:
            context: AbstractContextManager[Running] = running(
                program(**commands), tmp_path / "here", environment()
            )
            return stack.enter_context(context)

        yield started


def pid_of(supervisor: Running, what: str = "up") -> int:
    return int(supervisor.wait_for(rf"\| {what} (\d+)$")[1])


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_part_that_ends_is_started_again_with_growing_pauses(start: Start) -> None:
    supervisor = start(one=UP, two=UP)
    other = int(supervisor.wait_for(r"two +\| up (\d+)$")[1])
    up = int(supervisor.wait_for(r"one +\| up (\d+)$")[1])
    for pause in (1, 2):
        os.kill(up, signal.SIGKILL)
        supervisor.wait_for(rf"one ended by SIGKILL; it is started again in {pause} s")
        up = int(supervisor.wait_for(r"one +\| up (\d+)$", again=True)[1])
    assert psutil.pid_exists(other)
    assert "two ended" not in supervisor.text


def test_pauses_grow_up_to_a_bound_and_a_steady_part_starts_over() -> None:
    pauses = Pauses()
    grown = [pauses.after(0) for _ in range(8)]
    assert grown == sorted(grown)
    assert grown[0] < grown[1]
    assert grown[-1] == LONGEST_PAUSE
    assert pauses.after(STEADY_SECONDS) == grown[0]
    assert pauses.after(0) == grown[1]


def test_what_a_killed_part_has_started_goes_with_it(start: Start) -> None:
    supervisor = start(one=WITH_A_CHILD)
    child, leader = pid_of(supervisor, "child"), pid_of(supervisor)
    os.kill(leader, signal.SIGKILL)
    wait_until(partial(is_gone, child))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_good_order(start: Start, number: signal.Signals) -> None:
    supervisor = start(one="trap 'echo bye; exit 0' TERM; echo up $$; while :; do sleep 0.1; done")
    pid_of(supervisor)
    supervisor.send(number)
    assert supervisor.wait() == 0
    assert "| bye" in supervisor.text
    supervisor.wait_until_nothing_lives()


def test_nothing_outlives_a_supervisor_that_is_killed(start: Start) -> None:
    supervisor = start(one=WITH_A_CHILD, two=STUBBORN)
    pid_of(supervisor, "child")
    supervisor.wait_for(r"two +\| up")
    supervisor.send(signal.SIGKILL)
    supervisor.wait()
    supervisor.wait_until_nothing_lives()


def test_a_part_that_does_not_end_is_killed_after_its_grace(start: Start) -> None:
    supervisor = start(one=STUBBORN)
    pid_of(supervisor)
    supervisor.send(signal.SIGINT)
    supervisor.wait_for(r"\| no$")
    assert supervisor.wait() == 0
    supervisor.wait_until_nothing_lives()


def test_what_ignores_the_hang_up_goes_on(start: Start, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    command = ["nohup", *program(one=UP)]
    with running(command, tmp_path / "there", environment()) as supervisor:
        part = pid_of(supervisor)
        supervisor.send(signal.SIGHUP)
        os.kill(part, signal.SIGKILL)
        supervisor.wait_for(r"\| up \d+$", again=True)
        supervisor.send(signal.SIGTERM)
        assert supervisor.wait() == 0


def test_when_nobody_reads_any_more_everything_ends(tmp_path: Path) -> None:
    chatty = "echo $$ > pid; while :; do echo line; sleep 0.1; done"
    process = subprocess.Popen(
        program(one=chatty), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
    wait_until(partial(is_gone, int((tmp_path / "pid").read_text())))


def test_who_asks_after_nobody_reads_any_more_is_told_at_once() -> None:
    told: list[bool] = []
    with Path("/dev/full").open("w") as full:
        lines = Lines(Console(file=full))
        lines.say("a line")
        lines.when_gone(lambda: told.append(True))
        assert told == [True]


def test_output_is_shown_whatever_it_is(start: Start, tmp_path: Path) -> None:
    said = tmp_path / "said"
    long = r"yes x | head -n 300000 | tr -d '\n'"
    last = f"printf 'last'; touch {said}; sleep 600"
    supervisor = start(one=rf"printf '\377\n'; {long}; echo; {last}")
    supervisor.wait_for("\\| \N{REPLACEMENT CHARACTER}$")
    supervisor.wait_for(r"\| x+$")
    wait_until(said.exists)
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait() == 0
    assert supervisor.text.count("x") == 300000
    assert "| last" in supervisor.text
