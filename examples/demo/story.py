"""What happens, in which order.

More than half of the orders are placed at once, so that messages wait in the broker when it loses
them. The others follow one by one, and while they do a worker is killed. Then everybody waits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from uuid import UUID

import psycopg
from kombu.exceptions import OperationalError

from celery_durable import DurableError, Status
from examples.demo import ledger, orders, services, signals, workers
from examples.demo.app import durable, order
from examples.demo.orders import Ending
from examples.demo.services import Services
from examples.demo.show import Show
from examples.demo.verdict import Verdict, judge
from examples.demo.workers import Worker, WorkerFailed

LOOK_SECONDS = 0.05
ARRIVAL_SECONDS = 8.0
"""In so many seconds the orders arrive that are not placed at once."""

FEWEST_RUNS = 8
PATIENCE_SECONDS = 60.0
MOST_CHILDREN = 4
"""Processes of one worker."""

ENDED_AS = {Status.COMPLETED: Ending.COMPLETED, Status.FAILED: Ending.COMPENSATED}


class Story:
    """One demo, from the first order to the last."""

    def __init__(self, runs: int, at: Services, crew: Sequence[Worker], show: Show) -> None:
        self.runs = runs
        self.started: dict[UUID, int] = {}
        self.killed: dict[int, datetime] = {}
        self.lost: int | None = None
        self._at, self._crew, self._show = at, crew, show
        self._flushed_at = 0.0

    @property
    def at_once(self) -> int:
        """How many orders are placed before anything else."""
        return -(-self.runs * 6 // 10)

    def tell(self, children: int) -> None:
        """Until every order has ended, or patience has."""
        self._place(self.at_once)
        self._show.event(f"{self.at_once} orders are placed at once, the others one by one")
        until = time.monotonic() + PATIENCE_SECONDS + self.runs / children
        while time.monotonic() < until and not self._is_over():
            done = ledger.done()
            self._show.moved(len(self.started), done)
            if self.lost is None:
                if sum(done.values()) > children and self._at.broker.waiting():
                    self._flush()
            else:
                self._place(self._due())
                if not self.killed and 2 * len(self.started) > self.at_once + self.runs:
                    self._kill()
            time.sleep(LOOK_SECONDS)
        self._show.moved(len(self.started), ledger.done())

    def _place(self, up_to: int) -> None:
        numbers = range(len(self.started) + 1, up_to + 1)
        runs = order.start_many([orders.placed(number) for number in numbers]) if numbers else []
        self.started.update(zip((run.id for run in runs), numbers, strict=True))

    def _due(self) -> int:
        """How many orders should have been placed by now."""
        elapsed = (time.monotonic() - self._flushed_at) / ARRIVAL_SECONDS
        return min(self.runs, self.at_once + int(elapsed * (self.runs - self.at_once)))

    def _flush(self) -> None:
        self.lost = self._at.broker.flush()
        self._flushed_at = time.monotonic()
        self._show.event(
            f"[yellow]the broker loses everything it had: {self.lost} messages were waiting[/]\n"
            "           [dim](what waits in vain for 10 s is sent again)[/]"
        )

    def _kill(self) -> None:
        """Kill the worker that is in the middle of most calls, and start it again."""
        pid = ledger.caught_in_a_call()
        for worker in self._crew:
            if worker.pid == pid:
                self.killed[pid] = ledger.now()
                worker.kill()
                worker.start()
                self._show.event(f"[red]{worker.name} is killed (SIGKILL), and started again[/]")

    def _is_over(self) -> bool:
        if len(self.started) < self.runs:
            return False
        return all(not self._unfinished(status) for status in Status if status not in ENDED_AS)

    def _unfinished(self, status: Status) -> bool:
        return bool(durable.list(status=status, limit=1))

    def verdict(self) -> tuple[Verdict, list[str]]:
        """What the ledger says, and everything that is wrong."""
        verdict = judge(self.started, ledger.entries(), self.killed)
        problems = list(verdict.problems)
        if not self.killed:
            problems.append("No worker was killed: none was found in the middle of a call.")
        if not self.lost:
            problems.append("The broker has lost nothing: no message was waiting in it.")
        return verdict, problems


def perform(runs: int, show: Show) -> int:
    """Give the demo; the exit code."""
    show.opening(services.in_words())
    children = max(1, min(MOST_CHILDREN, runs // 12))
    with ExitStack() as stack:
        at = stack.enter_context(services.opened())
        crew = [Worker(number, at.folder, at.environment, children) for number in (1, 2)]
        stack.callback(workers.stop, crew, grace=0)
        stack.callback(signals.ignore)
        try:
            with show:
                show.event("two workers start")
                start(crew)
                story = Story(runs, at, crew, show)
                story.tell(2 * children)
            workers.stop(crew)
            return conclude(story, crew, show)
        except WorkerFailed as error:
            show.bad_end(str(error), [], logs(crew))
            return 1


def start(crew: Sequence[Worker]) -> None:
    for worker in crew:
        worker.start()
    workers.wait_until_ready(crew)


def conclude(story: Story, crew: Sequence[Worker], show: Show) -> int:
    """Say what the ledger proves."""
    verdict, problems = story.verdict()
    show.table(verdict, runs=story.runs, kills=len(story.killed), lost=story.lost or 0)
    if problems:
        show.bad_end("This should not be:", problems, logs(crew))
        return 1
    show.good_end(verdict)
    return 0


def logs(crew: Sequence[Worker]) -> list[str]:
    """The ends of the workers' logs."""
    return [f"The log of {worker.name} ends:\n{worker.end_of_log()}" for worker in crew]


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="orders to place (default 50)")
    runs: int = parser.parse_args().runs
    if runs < FEWEST_RUNS:
        parser.error(f"--runs: at least {FEWEST_RUNS}, or no message would wait in the broker")
    show = Show(runs)
    try:
        return perform(runs, show)
    except SystemExit:
        show.console.print("\n  Stopped. Nothing is left running.\n")
        raise
    except (DurableError, OperationalError, psycopg.Error) as error:
        show.bad_end("The demo could not be given:", [str(error)])
        return 1
