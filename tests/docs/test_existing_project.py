"""The page about an existing project, typed as it stands: files, a shell, a worker, a broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addresses import ROOT
from tests.docs.pages import blocks
from tests.docs.playground import with_database
from tests.docs.reader import Reader, await_ready
from tests.transports import Broker

PAGE = ROOT / "docs/how-to/add-to-an-existing-project.md"


@pytest.fixture
def reader(broker: Broker, empty_database_url: str, tmp_path: Path) -> Iterator[Reader]:
    """Somebody with a broker whose queues no other test shares."""
    durable, celery, payments = (broker.queue() for _ in range(3))

    def mine(code: str) -> str:
        setting = "app.conf.durable_database_url"
        queues = f"app.conf.update(durable_queue={durable!r}, task_default_queue={celery!r})"
        code = code.replace(setting, f"{queues}\n{setting}")
        code = code.replace('queue="payments"', f"queue={payments!r}")
        code = code.replace("-Q celery,durable,payments", f"-Q {celery},{durable},{payments}")
        return with_database(code, empty_database_url)

    folder, logs = tmp_path / "project", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    somebody = Reader(folder, logs, broker.env(), mine, is_forked=True)
    yield somebody
    somebody.leave()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_the_project_is_moved_over_when_the_page_is_typed_as_it_stands(reader: Reader) -> None:
    promised = [block.code for block in blocks(PAGE) if block.language == "text"]
    printed = []
    for block in blocks(PAGE):
        if block.language not in ("bash", "python", "ini") or "no-run" in block.directives:
            continue
        printed.append(reader.follow(block))
        if "terminal" in block.directives:
            await_ready(reader, block.directives["terminal"])
    assert promised[-1] in printed
    assert "2 passed" in printed[-1]
