"""The ways to be stuck of `why-is-it-stuck.md`, typed as they stand, each to the end of its run."""

import shlex
from collections.abc import Iterator

import pytest
from celery import Celery

from celery_durable import Durable
from tests.addresses import conninfo
from tests.cluster.rabbitmq import RabbitMQServer
from tests.docs.playground import with_database
from tests.docs.reader import Reader
from tests.docs.walk import SETUP, Walk, sections
from tests.services import PostgresServer, free_port

WAYS = [title for title in sections() if title[0].isdigit()]
OF_THE_BROKER = ("3.", "13.")
"""Followed on RabbitMQ too."""

PAGE_BROKER, PAGE_PORT = "redis://localhost:6390/0", "6390"


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def walk(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Walk]:
    server: RabbitMQServer | None = None
    url, port = "", str(free_port())
    if request.param == "rabbitmq":
        server = request.getfixturevalue("own_rabbitmq")
        url = server.url
    else:
        url = PAGE_BROKER.replace(PAGE_PORT, port)
    with postgres.database("durable_test_walk") as name:
        database = postgres.url(name)

        def mine(code: str) -> str:
            code = with_database(code.replace(PAGE_BROKER, url).replace(PAGE_PORT, port), database)
            return code.replace("psql -h localhost shop", f"psql {shlex.quote(conninfo(database))}")

        folder = tmp_path_factory.mktemp(request.param)
        reader = Reader(folder, tmp_path_factory.mktemp("logs"), {}, mine, is_forked=True)
        app = Celery("client", broker=url, set_as_current=False)
        app.conf.durable_database_url = database
        client = Durable(app)
        try:
            walk = Walk(reader, client, server)
            walk.set_up()
            yield walk
        finally:
            reader.leave()
            client.database.close()


@pytest.mark.parametrize("walk", ["redis"], indirect=True)
@pytest.mark.parametrize("title", WAYS)
def test_a_run_that_is_stuck_is_explained_and_moves_on(walk: Walk, title: str) -> None:
    walk.follow(sections()[title])
    walk.await_end()


@pytest.mark.parametrize("walk", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("title", [title for title in WAYS if title.startswith(OF_THE_BROKER)])
def test_what_has_to_do_with_the_broker_is_so_on_rabbitmq(walk: Walk, title: str) -> None:
    walk.follow(sections()[title])
    walk.await_end()


HELP = [
    (title, line.strip())
    for title in WAYS
    for block in sections()[title]
    if block.language == "text"
    for line in block.code.splitlines()
    if line.strip().startswith(("celery ", "SELECT "))
]
ANOTHER_WORKER = "-n worker2@%h"
"""Of it the page says that waiting helps too."""


@pytest.mark.parametrize(("title", "line"), HELP)
def test_what_why_says_to_type_is_what_the_page_types(title: str, line: str) -> None:
    typed = "\n".join(block.code for block in sections()[title] if block.language == "bash")
    assert line in typed.replace("$RUN", "0199b0c1-...") or line.endswith(ANOTHER_WORKER)


def test_the_page_has_ten_ways_or_more() -> None:
    assert len(WAYS) >= 10
    assert SETUP in sections()
