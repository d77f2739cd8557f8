"""Where a page's blocks run, as a reader pastes them: into files, and into a Python shell.

A block whose first line names a file, `# shop.py`, belongs into it; several make it up together.
All others are typed into a shell after `from shop import *`, line by line. Settings point at the
test's database, and there is no broker: a real relay takes what is due out of the outbox, and
threads of this process call the tasks. It starts when a block first asks for a result or a status.

A block inside of a comment is what only the test does. It sees what the reader has, and gives the
reader nothing.
"""

import code
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from celery_durable import Durable, Run
from celery_durable.background.relay import Published, Relay
from celery_durable.store.due import DueMessage
from celery_durable.workflow.observing import observers
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

    def connect(self) -> None:
        """There is nothing to connect to."""

    def publish(self, messages: Sequence[DueMessage]) -> Published:
        for message in messages:
            task = self._tasks[message.task]
            if message.token_id is None:
                task_id = message.options["task_id"]
                self._pool.submit(task.apply, message.args, message.kwargs, task_id=task_id)
            else:
                self._pool.submit(task, *message.args, **message.kwargs)
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


class _Shell(code.InteractiveConsole):
    """A Python shell in which an error is an error of the page."""

    def showtraceback(self) -> None:
        error = sys.exception()
        assert error is not None
        raise error

    def showsyntaxerror(self, *_: Any, **__: Any) -> None:
        self.showtraceback()


class Playground:
    """A folder with what a page puts into its files, and a shell."""

    def __init__(self, folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._known = monkeypatch
        self._url = database_url
        self._shell = _Shell({"__name__": "__main__"})

    def write(self, files: Sequence[Block]) -> None:
        """Put the blocks into their files, and import all that is in them, as the reader does."""
        for block in files:
            assert block.file is not None
            with (self._folder / block.file).open("a", encoding="utf-8") as file:
                file.write(with_database(block.code, self._url) + "\n\n")
        self._known.syspath_prepend(self._folder)
        for name in dict.fromkeys(block.file for block in files):
            module = self._imported(str(name))
            names = {n: value for n, value in vars(module).items() if not n.startswith("_")}
            self._shell.locals |= names

    def _imported(self, file: str) -> ModuleType:
        name = file.removesuffix(".py")
        spec = importlib.util.spec_from_file_location(name, self._folder / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        self._known.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    def run(self, block: Block) -> None:
        """Type a block into the shell; a hidden one is executed apart."""
        text = with_database(block.code, self._url)
        if block.is_hidden:
            own = {**self._shell.locals, "wait_until": wait_until}
            exec(compile("\n" * (block.line - 1) + text, "a hidden block", "exec"), own)
            return
        for line in [*text.splitlines(), ""]:
            self._shell.push(line)
        assert not self._shell.buffer, f"a line is missing after line {block.line}"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The surroundings that the blocks expect."""
        self._known.setenv("CELERY_BROKER_URL", "memory://")
        self._known.setenv("DURABLE_DATABASE_URL", self._url)
        with ExitStack() as workers:
            workers.callback(observers.clear)
            workers.callback(self._end_what_blocks_started)
            self._work_for_those_who_wait(workers)
            yield

    def _end_what_blocks_started(self) -> None:
        """Celery's test worker ends without the signal by which a worker says goodbye."""
        for durable in self._shell.locals.values():
            if isinstance(durable, Durable) and has_worker(durable):
                durable.liveness.leave()

    def _work_for_those_who_wait(self, workers: ExitStack) -> None:
        served: list[Durable] = []

        def serving(method: Callable[..., Any]) -> Callable[..., Any]:
            def served_first(run: Run, *args: Any, **kwargs: Any) -> Any:
                durable: object = run._runs
                # The handle of a harness executes by itself.
                if isinstance(durable, Durable) and durable not in served:
                    served.append(durable)
                    if not has_worker(durable) and durable.in_caller is None:
                        workers.enter_context(working(durable))
                return method(run, *args, **kwargs)

            return served_first

        self._known.setattr(Run, "result", serving(Run.result))
        self._known.setattr(Run, "status", serving(Run.status))


def has_worker(durable: Durable) -> bool:
    """Whether the page has started a worker of its own."""
    return hasattr(durable.app, "_durable_surroundings")
