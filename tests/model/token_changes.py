"""The states of a token, and the legal changes between them.

A test drives `decide` over every kind of event and holds the table to what it decides; a page of
the reference shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

from celery_durable.core.decision import Decision, End, Leave
from celery_durable.core.token import (
    ForBranches,
    ForChild,
    ForOperator,
    ForSignal,
    ForTimer,
    Token,
)


class TokenState(StrEnum):
    """Where a token is while no worker has claimed it."""

    READY = "ready"
    """Its unit can be executed, now or at its time."""
    SIGNAL = "signal"
    TIMER = "timer"
    CHILD = "child"
    BRANCHES = "branches"
    OPERATOR = "operator"
    GONE = "gone"
    """The branch has left through its parent's gate, or the run has ended."""


CLAIMED = "claimed"
"""Where a token is in between: a worker executes its unit, or looks whether its wait is over."""

CHANGES: Mapping[TokenState, frozenset[TokenState]] = {
    # To itself: the next unit, or another try of the same one.
    TokenState.READY: frozenset(TokenState),
    TokenState.SIGNAL: frozenset({TokenState.READY, TokenState.GONE}),
    TokenState.TIMER: frozenset({TokenState.READY, TokenState.GONE}),
    TokenState.CHILD: frozenset({TokenState.READY, TokenState.GONE}),
    TokenState.BRANCHES: frozenset({TokenState.READY, TokenState.GONE}),
    TokenState.OPERATOR: frozenset({TokenState.READY, TokenState.GONE}),
    TokenState.GONE: frozenset(),
}
"""From each place, those that one decision may bring the token to."""


def state_of(token: Token) -> TokenState:
    """Where the token is."""
    match token.wait:
        case None:
            return TokenState.READY
        case ForSignal():
            return TokenState.SIGNAL
        case ForTimer():
            return TokenState.TIMER
        case ForChild():
            return TokenState.CHILD
        case ForBranches():
            return TokenState.BRANCHES
        case ForOperator():
            return TokenState.OPERATOR
        case _:
            assert_never(token.wait)


def change_of(decision: Decision) -> tuple[TokenState, TokenState]:
    """From where to where a decision brings its token."""
    before = state_of(decision.token)
    if isinstance(decision.then, Leave | End):
        return before, TokenState.GONE
    return before, state_of(decision.then.token)
