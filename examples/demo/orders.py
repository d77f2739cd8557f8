"""Which orders are placed, and how an order may legally end."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

STEPS = ("reserve", "charge", "book", "ship", "confirm")
CHARGE, REFUND = "charge", "charge#compensate"
LAST_STEP, LAST_UNDO = "confirm", "reserve#compensate"

UNLUCKY_EVERY = 4
"""Every so manieth order's payment provider does not answer at first."""
UNDELIVERABLE_EVERY = 5
"""Every so manieth order cannot be shipped, and is undone."""


class Ending(StrEnum):
    """How an order has ended."""

    COMPLETED = "completed"
    COMPENSATED = "compensated"


def placed(number: int) -> dict[str, object]:
    """The input of order `number`, counted from 1."""
    return {
        "number": number,
        "is_unlucky": number % UNLUCKY_EVERY == 0 or number % UNDELIVERABLE_EVERY == 0,
        "is_deliverable": number % UNDELIVERABLE_EVERY != 0,
    }


def undeliverable(runs: int) -> int:
    """How many of the first `runs` orders cannot be shipped."""
    return runs // UNDELIVERABLE_EVERY


def ending(units: Sequence[str]) -> Ending | None:
    """How an order ended, by the units that were done for it in order; None for no legal ending.

    Either every step, or some steps and then the undo of each, the last first.
    """
    if tuple(units) == STEPS:
        return Ending.COMPLETED
    forward = [unit for unit in units if unit in STEPS]
    undone = [f"{unit}#compensate" for unit in reversed(forward)]
    is_prefix = tuple(forward) == STEPS[: len(forward)]
    if forward and is_prefix and list(units) == [*forward, *undone]:
        return Ending.COMPENSATED
    return None
