"""The tutorial, typed as it stands: a folder, real processes, a real broker, kill -9."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addresses import ROOT
from tests.cluster import LocalProcess
from tests.docs.pages import Block, blocks
from tests.docs.playground import with_database
from tests.forms import short_or_long
from tests.transports import Broker
from tests.waiting import wait_until

PAGE = ROOT / "docs/tutorial/first-workflow.md"


class Reader:
    """Somebody who follows a page in a folder, with a terminal for what goes on."""

    def __init__(self, folder: Path, logs: Path, broker: Broker, database_url: str) -> None:
        self.folder = folder
        self._logs = logs
        self._broker = broker
        self._url = database_url
        self._terminals: dict[str, LocalProcess] = {}
        self._typed = 0

    def follow(self, block: Block) -> str:
        """Do what a block says; what it printed."""
        code = self._mine(block.code)
        if block.language == "python":
            if "file" in block.directives:
                (self.folder / block.directives["file"]).write_text(code)
                return ""
            return self._finish(self._type([sys.executable, "-c", code]))
        if "when" in block.directives:
            self._await(block.directives["when"])
        typed = self._type(["bash", "-ec", code])
        if "terminal" in block.directives:
            self.close(block.directives["terminal"])
            self._terminals[block.directives["terminal"]] = typed
            wait_until(lambda: b" ready." in typed.logs(), message=lambda: typed.logs().decode())
            return ""
        return self._finish(typed)

    def close(self, terminal: str) -> None:
        if terminal in self._terminals:
            self._terminals.pop(terminal).end()

    def leave(self) -> None:
        for terminal in list(self._terminals):
            self.close(terminal)

    def _mine(self, code: str) -> str:
        """Their database, and a queue that no other test shares."""
        queue = self._broker.queue()
        named = 'app.conf.durable_database_url = "'
        code = code.replace(named, f'app.conf.durable_queue = "{queue}"\n{named}')
        return with_database(code, self._url).replace("-Q celery,durable", f"-Q {queue}")

    def _type(self, command: list[str]) -> LocalProcess:
        self._typed += 1
        env = {
            **self._broker.env(),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{self.folder}",
        }
        command = ["bash", "-c", 'cd "$0" && exec "$@"', str(self.folder), *command]
        process = LocalProcess(command, name=f"typed{self._typed}", directory=self._logs, env=env)
        process.start()
        return process

    def _finish(self, process: LocalProcess) -> str:
        code = process.wait(60)
        printed = process.logs().decode()
        assert code == 0, printed
        return printed

    def _await(self, words: str) -> None:
        ledger = self.folder / "ledger.txt"
        wait_until(lambda: ledger.exists() and words in ledger.read_text(), message=words)


@pytest.fixture
def reader(broker: Broker, empty_database_url: str, tmp_path: Path) -> Iterator[Reader]:
    folder, logs = tmp_path / "shop", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    somebody = Reader(folder, logs, broker, empty_database_url)
    yield somebody
    somebody.leave()


@pytest.mark.parametrize(
    "broker", short_or_long(["rabbitmq"], ["redis", "rabbitmq"]), indirect=True
)
def test_the_tutorial_works_when_typed_as_it_stands(reader: Reader) -> None:
    chosen = [b for b in blocks(PAGE) if b.language in ("bash", "python")]
    printed = [reader.follow(b) for b in chosen if "no-run" not in b.directives]
    promised = next(b.code for b in blocks(PAGE) if b.language == "text")
    ledger = (reader.folder / "ledger.txt").read_text()
    assert without_keys(ledger) == without_keys(promised)
    assert len(set(re.findall(r"key (\S+)", ledger))) == 1
    assert printed[-1].strip() == "False lamp-1 is on its way"


def without_keys(ledger: str) -> str:
    return re.sub(r"key \S+", "key", ledger)
