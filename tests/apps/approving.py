"""A company that asks people: it pays expenses that somebody approves."""

from __future__ import annotations

import json
import os
from datetime import date
from typing import Any, Literal

from celery import Celery
from pydantic import BaseModel, Field, field_validator

from celery_durable import Durable, Suspend
from tests.apps import configure
from tests.apps.shop import CONFIG


class Account(BaseModel):
    """Where the money goes."""

    iban: str


class Approval(BaseModel):
    """Says whether the expense is paid, and how."""

    approved: bool
    amount: int = Field(ge=1, le=1000, description="In euros, at most 1,000.")
    by: Literal["card", "transfer"] = "transfer"
    due: date | None = None
    remarks: list[str] = []
    account: Account | None = None

    @field_validator("remarks")
    @classmethod
    def are_said(cls, remarks: list[str]) -> list[str]:
        """No remark is only a dash."""
        if "-" in remarks:
            raise ValueError("a dash says nothing")
        return remarks


def ask(ctx: Any) -> str:
    """Make the link that a mail would hold."""
    url: str = ctx.callback_url("signoff", expires=3600)
    return url


def pay(ctx: Any) -> str:
    """Say what is paid."""
    approval = ctx.results["signoff"]
    return f"{approval.amount} by {approval.by}" if approval.approved else "nothing"


def call_tool(ctx: Any) -> Any:
    """Ask before a tool is called, as an agent does."""
    return ctx.resume_data if ctx.is_resumed else Suspend({"tool": "refund", "amount": 700})


def define(durable: Durable) -> None:
    """Define the workflows."""
    (
        durable.workflow("expense")
        .step(ask)
        .wait_for_signal("signoff", schema=Approval, assignees=["Ann", "Bob"])
        .step(pay)
    )
    durable.workflow("agent").step(call_tool)


app = configure(Celery("approving"))
app.conf.update(json.loads(os.environ.get(CONFIG, "{}")))
durable = Durable(app)
define(durable)
