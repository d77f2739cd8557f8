"""`durable metrics`: once, or served."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from celery_durable import Durable
from celery_durable.background.counting import write_counts
from celery_durable.cli.metrics import Server, server_at
from celery_durable.view.instruments import observe
from tests.faults.proxy import Proxy
from tests.integration.commanding import Cli, assert_refused
from tests.integration.driving import World, defining, end, make_durable


@contextmanager
def served(durable: Durable) -> Iterator[str]:
    server = server_at(durable, ("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_it_prints_what_prometheus_reads(world: World, call: Cli) -> None:
    worker = world.worker(defining([], "a"))
    answer = call(worker.app, "metrics")
    assert answer.code == 0
    assert answer.err == ""
    families = {family.name: family for family in text_string_to_metric_families(answer.out)}
    assert families["durable_relays"].type == "gauge"


def test_it_serves_them_at_one_path(world: World) -> None:
    with served(world.worker()) as url:
        with urllib.request.urlopen(f"{url}/metrics?x=1", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b"durable_relays" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/", timeout=10)


def test_while_postgres_is_away_it_says_so(proxy: Proxy) -> None:
    worker = make_durable(proxy.url)
    proxy.refuse()
    with served(worker) as url:
        with pytest.raises(urllib.error.HTTPError, match="503") as raised:
            urllib.request.urlopen(f"{url}/metrics", timeout=20)
        raised.value.close()
        proxy.accept()
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
            assert b"durable_relays" in answer.read()
    end(worker)


@pytest.mark.parametrize("address", ["nowhere", "1.2.3.4", "x:y", ":70000", "::1:80"])
def test_an_address_that_is_none_is_refused(world: World, call: Cli, address: str) -> None:
    assert_refused(call(world.worker().app, "metrics", "--listen", address), 2, "127.0.0.1:9540")


def test_an_address_that_is_taken_is_refused(world: World, call: Cli) -> None:
    worker = world.worker()
    taken = Server(worker, ("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.server_address[1]}"
    assert_refused(call(worker.app, "metrics", "--listen", address), 2, "Nothing can listen at")
    taken.server_close()


def test_opentelemetry_observes_the_same(world: World) -> None:
    worker = world.worker(defining([], "a"))
    worker.start("w")
    world.drain(worker)
    write_counts(worker.database)
    reader = InMemoryMetricReader()
    assert observe(worker, MeterProvider([reader]))
    collected = reader.get_metrics_data()
    assert collected is not None
    found = {
        metric.name: metric
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    (ended,) = (
        point
        for point in found["durable_runs_ended"].data.data_points
        if (point.attributes or {}).get("status") == "completed"
    )
    assert getattr(ended, "value", None) == 1
    assert found["durable_unit_seconds_sum"].unit == "s"
    (units,) = found["durable_unit_seconds_count"].data.data_points
    assert units.attributes == {"workflow": "w", "unit": "a", "outcome": "completed"}
    assert "durable_relays" in found
