"""The page on Django, typed as it stands: a new project, a worker, an order, its own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addresses import ROOT
from tests.contrib.projects import variables_of
from tests.docs.pages import blocks
from tests.docs.reader import Reader, await_ready
from tests.transports import RedisBroker

PAGE = ROOT / "docs/how-to/django.md"


@pytest.fixture
def reader(redis_broker: RedisBroker, empty_database_url: str, tmp_path: Path) -> Iterator[Reader]:
    variables = variables_of(empty_database_url)

    def mine(code: str) -> str:
        """Their database, and a broker and a queue that no other test shares."""
        queue = redis_broker.queue()
        broker = f'CELERY_BROKER_URL = "{redis_broker.url}"\nCELERY_DURABLE_QUEUE = "{queue}"'
        code = code.replace('CELERY_BROKER_URL = "redis://localhost:6379/0"', broker)
        code = code.replace('"NAME": "shop"', f'"NAME": "{variables["SHOP_DATABASE"]}"')
        return code.replace("-Q celery,durable", f"-Q {queue}")

    folder, logs = tmp_path / "project", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    somebody = Reader(folder, logs, {**redis_broker.env(), **variables}, mine)
    yield somebody
    somebody.leave()


@pytest.mark.timeout(300)
def test_the_page_works_when_typed_as_it_stands(reader: Reader) -> None:
    printed = []
    for block in blocks(PAGE):
        if "pip install" in block.code:
            continue
        printed.append(reader.follow(block))
        if "terminal" in block.directives:
            await_ready(reader, block.directives["terminal"])
    said = "\n".join(printed)
    assert "'ship': None" in said
    assert "'reserve': 'lamp-" in said
    assert "fulfil v1  completed  order-1" in said
    assert "Ran 3 tests" in said
