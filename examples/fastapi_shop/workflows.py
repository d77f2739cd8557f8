"""What the shop does behind its API.

    celery -A examples.fastapi_shop.workflows worker -Q celery,durable

Celery reads `CELERY_BROKER_URL`, and `Durable` reads `DURABLE_DATABASE_URL`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from celery import Celery
from sqlalchemy.orm import Session

from celery_durable import Context, Durable, OutboxTask
from examples.fastapi_shop.tables import Order, Receipt

app = Celery("fastapi_shop")
durable = Durable(app)


@app.task(base=OutboxTask, bind=True)
def send_receipt(self: Any, order_id: int, text: str) -> None:
    """Stands for a mailer. A task may come twice, always with the same id: so it is the key."""
    engine = sa.create_engine(durable.settings.database_url, poolclass=sa.NullPool)
    with Session(engine) as session, session.begin():
        session.merge(Receipt(task_id=self.request.id, order_id=order_id, text=text))


@durable.step(transactional=True)
def note_payment(ctx: Context) -> str:
    """The order is paid, and the receipt goes out, if and only if this step commits."""
    payment_id: str = ctx.results["payment"]["payment_id"]
    order = ctx.session.get_one(Order, ctx.input["order_id"])
    order.payment_id = payment_id
    ctx.send_task(send_receipt.s(order.id, f"Paid with {payment_id}."))
    return payment_id


@durable.step
def ship(ctx: Context) -> dict[str, str]:
    """Stands for a carrier, to whom the key says which shipment it is."""
    return {"shipment": ctx.idempotency_key}


order_workflow = (
    durable.workflow("order")
    .wait_for_signal("payment", timeout=timedelta(days=3))
    .step(note_payment)
    .step(ship)
)
