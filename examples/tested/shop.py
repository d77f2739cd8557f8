"""Two workflows that charge a card. One can be crashed anywhere; the other cannot."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery import Celery

from celery_durable import Context, Durable, RetryPolicy

app = Celery("shop", broker="redis://localhost:6379/0")
durable = Durable(app)


@dataclass
class Bank:
    """A payment provider: what is charged with the same key is charged once."""

    payments: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    keys: set[str] = field(default_factory=set)

    def charge(self, card: str, amount: int, key: str | None = None) -> str:
        if key is None or key not in self.keys:
            self.payments[card].append(amount)
        if key is not None:
            self.keys.add(key)
        return "charged"


bank = Bank()


@durable.step(retry=RetryPolicy(max_attempts=3, initial=30))
def reserve(ctx: Context) -> dict[str, Any]:
    return {"sku": ctx.input["sku"], "reservation": f"reservation of {ctx.idempotency_key}"}


@reserve.compensate
def release(ctx: Context) -> str:
    return f"released the {ctx.result['reservation']}"


@durable.step
def charge_carelessly(ctx: Context) -> str:
    return bank.charge(str(ctx.run_id), ctx.input["price"])


@durable.step
def charge(ctx: Context) -> str:
    return bank.charge(str(ctx.run_id), ctx.input["price"], key=ctx.idempotency_key)


def ship(ctx: Context) -> str:
    return f"shipped {ctx.results['reserve']['sku']}"


careless_order = durable.workflow("careless_order").step(reserve).step(charge_carelessly).step(ship)

order = (
    durable.workflow("order")
    .step(reserve)
    .wait_for_signal("signoff", timeout=timedelta(days=3))
    .step(charge)
    .sleep("cooldown", timedelta(hours=24))
    .step(ship)
)
