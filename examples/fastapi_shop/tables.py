"""What the shop keeps, in the database of the runs: an order and its run commit together."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    __table_args__ = (sa.CheckConstraint("stock >= 0", name="in_stock"),)

    sku: Mapped[str] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(sa.ForeignKey(Item.sku))
    email: Mapped[str]
    payment_id: Mapped[str | None]
    run_id: Mapped[UUID] = mapped_column(nullable=True)  # until the run is started


class Receipt(Base):
    """`task_id` makes a task that is executed twice write one receipt."""

    __tablename__ = "receipts"

    task_id: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(Order.id))
    text: Mapped[str]
