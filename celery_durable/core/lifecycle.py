"""The places of a token, and the legal changes between them.

A test drives `decide` over every kind of event and holds the table to what it decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

from celery_durable.core.decision import Decision, End, Leave
from celery_durable.core.token import ForBranches, ForChild, ForSignal, ForTimer, Token


class Place(StrEnum):
    """Where a token is while no worker has claimed it."""

    READY = "ready"
    """Its unit can be executed, now or at its time."""
    SIGNAL = "signal"
    TIMER = "timer"
    CHILD = "child"
    BRANCHES = "branches"
    GONE = "gone"
    """The branch has left through its parent's gate, or the run has ended."""


CLAIMED = "claimed"
"""Where a token is in between: a worker executes its unit, or looks whether its wait is over."""

CHANGES: Mapping[Place, frozenset[Place]] = {
    # To itself: the next unit, or another try of the same one.
    Place.READY: frozenset(Place),
    Place.SIGNAL: frozenset({Place.READY, Place.GONE}),
    Place.TIMER: frozenset({Place.READY, Place.GONE}),
    Place.CHILD: frozenset({Place.READY, Place.GONE}),
    Place.BRANCHES: frozenset({Place.READY, Place.GONE}),
    Place.GONE: frozenset(),
}
"""From each place, those that one decision may bring the token to."""


def place_of(token: Token) -> Place:
    """Where the token is."""
    match token.wait:
        case None:
            return Place.READY
        case ForSignal():
            return Place.SIGNAL
        case ForTimer():
            return Place.TIMER
        case ForChild():
            return Place.CHILD
        case ForBranches():
            return Place.BRANCHES
        case _:
            assert_never(token.wait)


def change_of(decision: Decision) -> tuple[Place, Place]:
    """From where to where a decision brings its token."""
    before = place_of(decision.token)
    if isinstance(decision.then, Leave | End):
        return before, Place.GONE
    return before, place_of(decision.then.token)
