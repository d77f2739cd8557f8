"""Where a page's blocks run: settings point at the test's database, and there is no broker.

A real relay takes what is due out of the outbox; in place of a broker, threads of this process call
the tasks. It starts when a block first waits for a result.
"""

import re
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, ResultTimeout, Run
from celery_durable.relay import Published, Relay
from celery_durable.store.due import Message
from tests.docs.pages import Block
from tests.waiting import wait_until

THREADS = 4

_DATABASE_URL = re.compile(r"postgresql(?P<driver>\+psycopg)?://[^\s\"']+")


def with_database(code: str, url: str) -> str:
    """`code` with the test's database in place of the reader's."""
    plain = url.replace("+psycopg", "")
    return _DATABASE_URL.sub(lambda match: url if match["driver"] else plain, code)


class _InThreads:
    """Publishes a message by calling its task."""

    lowest_first = False

    def __init__(self, durable: Durable) -> None:
        self._tasks = durable.app.tasks
        self._pool = ThreadPoolExecutor(THREADS)

    def publish(self, messages: Sequence[Message]) -> Published:
        for message in messages:
            self._pool.submit(self._tasks[message.task], *message.args, **message.kwargs)
        return Published([message.id for message in messages])

    def close(self) -> None:
        """The relay's connection to the broker; there is none."""

    def finish(self) -> None:
        self._pool.shutdown()


@contextmanager
def working(durable: Durable) -> Iterator[None]:
    """Runs of `durable` move on while the block lasts."""
    publisher = _InThreads(durable)
    relay = Relay(durable.database, publisher, durable.settings)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield
    finally:
        relay.stop()
        thread.join()
        publisher.finish()
        durable.liveness.leave()
        durable.database.close()


class Playground:
    """The module that a page's blocks make up together."""

    def __init__(self, page: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._page = page
        self._known = monkeypatch
        self._url = database_url
        self._module = ModuleType(f"docs_{page.stem.replace('-', '_').replace('.', '_')}")

    def run(self, block: Block) -> None:
        """Run a block; its lines in a traceback are those of the page."""
        code = "\n" * (block.line - 1) + with_database(block.code, self._url)
        exec(compile(code, str(self._page), "exec"), vars(self._module))
        app = vars(self._module).get("app")
        if isinstance(app, Celery):
            # The reader has put it into a file of that name, and imports it from there.
            self._known.setitem(sys.modules, app.main, self._module)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The surroundings that the blocks expect."""
        self._known.setenv("CELERY_BROKER_URL", "memory://")
        self._known.setenv("DURABLE_DATABASE_URL", self._url)
        # What is stored as JSON names its class, which must be found again.
        self._known.setitem(sys.modules, self._module.__name__, self._module)
        with ExitStack() as workers:
            workers.callback(self._end_what_blocks_started)
            self._work_for_those_who_wait(workers)
            yield

    def _end_what_blocks_started(self) -> None:
        """Celery's test worker ends without the signal by which a worker says goodbye."""
        for durable in vars(self._module).values():
            if isinstance(durable, Durable) and has_worker(durable):
                durable.liveness.leave()

    def _work_for_those_who_wait(self, workers: ExitStack) -> None:
        result = Run.result
        served: list[Durable] = []

        def worked_for(run: Run, timeout: float | timedelta | None = None) -> Any:
            durable = run._durable
            if durable not in served:
                served.append(durable)
                if not has_worker(durable):
                    workers.enter_context(working(durable))
            return result(run, timeout)

        self._known.setattr(Run, "result", worked_for)


def go_on_until(run: Run, status: str) -> None:
    """Let the run go on until it stands so; for blocks that a reader does not see."""

    def stands_so() -> bool:
        try:
            run.result(timeout=0)
        except ResultTimeout as error:
            return error.status == status
        return False

    wait_until(stands_so, message=lambda: f"{status}: {run.status()}")


def has_worker(durable: Durable) -> bool:
    """Whether the page has started a worker of its own."""
    return hasattr(durable.app, "_durable_surroundings")
