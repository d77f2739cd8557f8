"""The tutorial, typed as it stands: a folder, real processes, a real broker, kill -9."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addresses import ROOT
from tests.docs.pages import Block, blocks
from tests.docs.playground import with_database
from tests.docs.reader import Reader, await_ready
from tests.forms import short_or_long
from tests.transports import Broker
from tests.waiting import wait_until

PAGE = ROOT / "docs/tutorial/first-workflow.md"


@pytest.fixture
def reader(broker: Broker, empty_database_url: str, tmp_path: Path) -> Iterator[Reader]:
    def mine(code: str) -> str:
        """Their database, and a queue that no other test shares."""
        queue = broker.queue()
        named = 'app.conf.durable_database_url = "'
        code = code.replace(named, f'app.conf.durable_queue = "{queue}"\n{named}')
        return with_database(code, empty_database_url).replace("-Q celery,durable", f"-Q {queue}")

    folder, logs = tmp_path / "shop", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    somebody = Reader(folder, logs, broker.env(), mine)
    yield somebody
    somebody.leave()


@pytest.mark.parametrize(
    "broker", short_or_long(["rabbitmq"], ["redis", "rabbitmq"]), indirect=True
)
def test_the_tutorial_works_when_typed_as_it_stands(reader: Reader) -> None:
    chosen = [b for b in blocks(PAGE) if b.language in ("bash", "python")]
    printed = [follow(reader, b) for b in chosen if "no-run" not in b.directives]
    promised = next(b.code for b in blocks(PAGE) if b.language == "text")
    ledger = (reader.folder / "ledger.txt").read_text()
    assert without_keys(ledger) == without_keys(promised)
    assert len(set(re.findall(r"key (\S+)", ledger))) == 1
    assert printed[-1].strip() == "False lamp-1 is on its way"


def follow(reader: Reader, block: Block) -> str:
    """Do what a block says, when it is time for it."""
    if "when" in block.directives:
        ledger, words = reader.folder / "ledger.txt", block.directives["when"]
        wait_until(lambda: ledger.exists() and words in ledger.read_text(), message=words)
    printed = reader.follow(block)
    if "terminal" in block.directives:
        await_ready(reader, block.directives["terminal"])
    return printed


def without_keys(ledger: str) -> str:
    return re.sub(r"key \S+", "key", ledger)
