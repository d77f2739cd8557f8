"""`examples/fastapi_shop`: its API in this process, and a real worker (P7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from celery_durable import RunCancelled
from tests.apps import configure
from tests.brokers.shop import Shop, on_redis
from tests.waiting import wait_until

pytest.importorskip("fastapi", reason="the example needs it")
pytest.importorskip("httpx", reason="the test asks the API through it")

import httpx

from examples.fastapi_shop import workflows
from examples.fastapi_shop.web import make_api

APP = "tests.apps.fastapi_shop:app"

pytestmark = on_redis

Talk = Callable[[httpx.AsyncClient], Awaitable[None]]


class Api:
    """The API on one driver; each `talk` with it has an event loop of its own."""

    def __init__(self, shop: Shop, driver: str) -> None:
        self.shop = shop
        self._url = sa.make_url(shop.database_url).set(drivername=f"postgresql+{driver}")

    def talk(self, talk: Talk) -> None:
        async def main() -> None:
            async with self._client() as client:
                await talk(client)

        asyncio.run(main())

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        api = make_api(self._url.render_as_string(hide_password=False))
        transport = httpx.ASGITransport(api)
        async with (
            api.router.lifespan_context(api),
            httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
        ):
            yield client

    def receipts(self, order_id: int) -> list[str]:
        query = "SELECT text FROM receipts WHERE order_id = %s ORDER BY text"
        return [text for (text,) in self.shop.query(query, order_id)]


@pytest.fixture(scope="module")
def working(shop: Shop) -> Iterator[Shop]:
    configure(shop.broker.configure(workflows.app), shop.broker.env())
    workflows.app.conf.durable_database_url = shop.database_url
    shop.worker(APP, concurrency=1)
    yield shop
    workflows.durable.database.close()


@pytest.fixture(params=["psycopg", "asyncpg"])
def api(working: Shop, request: pytest.FixtureRequest) -> Api:
    pytest.importorskip(request.param)
    return Api(working, request.param)


def count(shop: Shop, rows: str) -> int:
    ((found,),) = shop.query(f"SELECT count(*) FROM {rows}")
    return int(found)


def test_an_order_is_paid_by_a_webhook_and_shipped(api: Api) -> None:
    """P7, P9: a webhook that comes twice counts once."""

    async def talk(client: httpx.AsyncClient) -> None:
        await client.put("/items/lamp", params={"stock": 5})
        placed = await client.post("/orders", json={"sku": "lamp", "email": "ada@example.org"})
        assert placed.status_code == 201
        order_id = placed.json()["order_id"]
        payment = {"order_id": order_id, "payment_id": f"p{order_id}"}
        outcomes = [
            (await client.post("/webhooks/payment", json=payment)).json()["outcome"]
            for _ in range(2)
        ]
        assert outcomes == ["stored", "duplicate"]
        run = workflows.durable.run(placed.json()["run_id"])
        await run.aresult(timeout=30)
        shown = (await client.get(f"/orders/{order_id}")).json()
        assert (shown["status"], shown["results"]["note_payment"]) == ("completed", f"p{order_id}")
        said = [f"Paid with p{order_id}.", "We have your order of lamp."]
        wait_until(lambda: api.receipts(order_id) == said, message="both receipts")

    api.talk(talk)


def test_an_order_that_cannot_be_filled_leaves_nothing(api: Api) -> None:
    """P7: it had an order, a run and a receipt when the database refused it."""

    async def talk(client: httpx.AsyncClient) -> None:
        await client.put("/items/chair", params={"stock": 0})
        tables = ("orders", "durable_run")
        before = [count(api.shop, table) for table in tables]
        for sku in ("chair", "unicorn"):
            refused = await client.post("/orders", json={"sku": sku, "email": "ada@example.org"})
            assert (refused.status_code, sku in refused.json()["detail"]) == (409, True)
        assert [count(api.shop, table) for table in tables] == before
        assert count(api.shop, "durable_outbox WHERE strpos(args::text, 'of chair') > 0") == 0

    api.talk(talk)


def test_what_is_not_there_or_over_is_refused(api: Api) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get("/orders/12345")).status_code == 404
        unknown = {"order_id": 12345, "payment_id": "p"}
        assert (await client.post("/webhooks/payment", json=unknown)).status_code == 404
        await client.put("/items/desk", params={"stock": 1})
        placed = await client.post("/orders", json={"sku": "desk", "email": "ada@example.org"})
        run = workflows.durable.run(placed.json()["run_id"])
        await run.acancel()
        with pytest.raises(RunCancelled):
            await run.aresult(timeout=30)
        late = {"order_id": placed.json()["order_id"], "payment_id": "late"}
        refused = await client.post("/webhooks/payment", json=late)
        assert (refused.status_code, "cancelled" in refused.json()["detail"]) == (409, True)

    api.talk(talk)
