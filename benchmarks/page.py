"""What pages of the web page take beside 100,000 runs, and of a run with 10,000 units.

`first` is the first request of a server that has just started, `then` the median of those after
it. The time is that of the whole answer, on a connection that stands.
"""

from __future__ import annotations

import secrets
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection

import psutil

from benchmarks.bench import Bench
from benchmarks.engine import durable_on, plain
from benchmarks.processes import Process
from benchmarks.section import Section, number
from tests.services import free_port
from tests.web.many import FILL, LARGE, RUNS

PAGES: Mapping[str, str] = {
    "overview": "/",
    "list of runs": "/runs",
    "failed of a workflow": "/runs?status=failed&ended_since=24h&workflow=w10",
    "standing for an hour": "/runs?status=running&standing_since=1h",
    "a run of 10,000 units": f"/runs/{LARGE}",
    "its units": f"/runs/{LARGE}/units",
    "workflows": "/workflows",
}

AGAIN = 20
"""Requests of a page after the first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one page took, in ms; `processor` is that of the server alone, for each of `then`."""

    page: str
    first: float
    then: float
    processor: float
    kilobytes: float


def measure(bench: Bench) -> Iterator[Section]:
    with bench.services.postgres.database() as name:
        url = bench.services.postgres.url(name)
        durable_on(url).database.close()
        with plain(url) as connection:
            for statement in FILL.split(";\n"):
                connection.execute(statement.encode())
        measured = [
            asked for page in PAGES if bench.only in page for asked in [_measured(bench, url, page)]
        ]
    yield Section(
        title=f"page: ms, beside {RUNS:,} runs",
        columns=("page", "first", "then", "processor", "kB"),
        rows=[
            (one.page, *map(number, (one.first, one.then, one.processor, one.kilobytes)))
            for one in measured
        ],
        note="Each page is asked for by itself, of a server that has just started.",
        record=[asdict(one) for one in measured],
        figures={f"page: {one.page}": one.first for one in measured},
    )


def _measured(bench: Bench, url: str, page: str) -> Answer:
    token = secrets.token_urlsafe()
    with serving(bench, url, token) as (server, port):
        process = psutil.Process(server)
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            first, size = _ask(connection, PAGES[page], token)
            before = sum(process.cpu_times()[:2])
            then = [_ask(connection, PAGES[page], token)[0] for _ in range(AGAIN)]
            processor = sum(process.cpu_times()[:2]) - before
    return Answer(page, first, statistics.median(then), 1000 * processor / AGAIN, size / 1000)


def _ask(connection: HTTPConnection, path: str, token: str) -> tuple[float, int]:
    """The milliseconds that an answer took, and its bytes."""
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    took = 1000 * (time.perf_counter() - began)
    if answer.status != 200:
        raise RuntimeError(f"{path} answers {answer.status}: {body[:200]!r}")
    return took, len(body)


@contextmanager
def serving(bench: Bench, url: str, token: str) -> Iterator[tuple[int, int]]:
    """A server of the page in a process of its own: its process and its port."""
    port = free_port()
    log = bench.services.folder / f"page-{port}.log"
    words = ["celery", "-A", "benchmarks.programs.page_app", "durable", "web", "--port", str(port)]
    env = {"PAGE_DATABASE_URL": url, "PAGE_TOKEN": token}
    server = Process([sys.executable, "-m", *words], log, env)
    try:
        server.wait_ready(f"http://127.0.0.1:{port}")
        _wait_until_it_listens(port)
        (child,) = psutil.Process(server.pid).children() or [psutil.Process(server.pid)]
        yield child.pid, port
    finally:
        server.end()


def _wait_until_it_listens(port: int) -> None:
    while True:
        try:
            with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.connect()
                return
        except OSError:
            time.sleep(0.05)
