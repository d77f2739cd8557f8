"""The API of the shop. Whatever a request does commits together, or not at all.

Each path opens its own transaction, so that it has committed before the response is sent.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from examples.fastapi_shop.tables import Base, Item, Order
from examples.fastapi_shop.workflows import durable, order_workflow, send_receipt


class NewOrder(BaseModel):
    sku: str
    email: str


class Payment(BaseModel):
    order_id: int
    payment_id: str


def make_api(database_url: str) -> FastAPI:
    """The API on this database. `database_url` may name any async driver: asyncpg, or psycopg."""
    engine = create_async_engine(database_url)
    transaction = async_sessionmaker(engine, expire_on_commit=False).begin

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await durable.amigrate()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    api = FastAPI(title="A shop on durable workflows", lifespan=lifespan)

    @api.put("/items/{sku}", status_code=204)
    async def stock_item(sku: str, stock: int) -> None:
        async with transaction() as session:
            await session.merge(Item(sku=sku, stock=stock))

    @api.post("/orders", status_code=201)
    async def place_order(new: NewOrder) -> dict[str, Any]:
        try:
            async with transaction() as session:
                order = await _placed(session, new)
        except IntegrityError as error:
            # Neither order nor run nor receipt is left.
            raise HTTPException(409, f"There is no {new.sku} in stock.") from error
        return {"order_id": order.id, "run_id": order.run_id}

    @api.post("/webhooks/payment")
    async def note_payment(payment: Payment) -> dict[str, str]:
        async with transaction() as session:
            run_id = (await _order(session, payment.order_id)).run_id
            # Whoever sends webhooks sends them again: those of one key count once.
            delivery = await durable.aresume(
                run_id,
                "payment",
                payment.model_dump(include={"payment_id"}),
                key=payment.payment_id,
                session=session,
            )
        if not delivery.accepted:
            raise HTTPException(409, delivery.reason)
        return {"outcome": delivery.outcome}

    @api.get("/orders/{order_id}")
    async def show_order(order_id: int) -> dict[str, Any]:
        async with transaction() as session:
            order = await _order(session, order_id)
        run = await durable.astatus(order.run_id)
        return {
            "sku": order.sku,
            "status": run.status,
            "awaiting": run.awaiting,
            "results": run.results,
            "error": run.error.message if run.error else None,
        }

    return api


async def _placed(session: AsyncSession, new: NewOrder) -> Order:
    """Write the order, start its run and send a receipt: all by the caller's transaction."""
    order = Order(sku=new.sku, email=new.email)
    session.add(order)
    await session.flush()  # gives the order its id
    with durable.joining(session):
        run = await durable.astart(order_workflow, {"order_id": order.id}, key=f"order-{order.id}")
        await durable.asend_task(send_receipt.s(order.id, f"We have your order of {new.sku}."))
    order.run_id = run.id
    item = await session.get_one(Item, new.sku)
    item.stock -= 1  # the database refuses the last one's second buyer, when this commits
    return order


async def _order(session: AsyncSession, order_id: int) -> Order:
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"There is no order {order_id}.")
    return order


api = make_api(os.environ.get("DURABLE_DATABASE_URL", "postgresql+psycopg://localhost/shop"))
