"""What the agent can do. The tables are in the database of the runs: so each is done once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

tables = sa.MetaData()

questions = sa.Table(
    "questions",
    tables,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("run_id", sa.Uuid, nullable=False),
    sa.Column("signal", sa.Text, nullable=False),
    sa.Column("tool", sa.Text, nullable=False),
    sa.Column("args", sa.JSON, nullable=False),
    sa.UniqueConstraint("run_id", "signal"),
)
"""What the agent has asked people: the signal is what its run waits for."""

refunds = sa.Table(
    "refunds",
    tables,
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
)

letters = sa.Table(
    "letters",
    tables,
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)


def look_up_order(_session: Session, number: int) -> dict[str, Any]:
    return {"number": number, "item": "teapot", "price": 40}


def refund(session: Session, number: int, amount: int) -> dict[str, Any]:
    session.execute(sa.insert(refunds).values(number=number, amount=amount))
    return {"refunded": amount}


def write_to_customer(session: Session, number: int, text: str) -> dict[str, Any]:
    session.execute(sa.insert(letters).values(number=number, text=text))
    return {"written": True}


TOOLS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "look_up_order": look_up_order,
    "refund": refund,
    "write_to_customer": write_to_customer,
}

WANT_APPROVAL = frozenset({"refund", "write_to_customer"})


def use(session: Session, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Use a tool. A name that the model made up is no reason to fail: it is told."""
    tool = TOOLS.get(name)
    return tool(session, **args) if tool else {"error": f"There is no tool {name!r}."}
