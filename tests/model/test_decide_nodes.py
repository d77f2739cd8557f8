"""`decide` for every event at every place of a token: forward, cancelled, on the way back.

A pair of place and event either happens, and then its decision keeps the law (`decisions`); or it
cannot. Which of those are refused is listed, so that a pair that changes sides is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from celery_durable.core.decide import decide
from celery_durable.core.decision import RollBack, Undo
from celery_durable.core.event import (
    Arrived,
    ChildEnded,
    ChildRequested,
    Chosen,
    Crashed,
    Elapsed,
    Event,
    Failed,
    Flagged,
    Iteration,
    Joined,
    Listed,
    Signalled,
    SleepRequested,
    Succeeded,
    Suspended,
)
from celery_durable.core.names import RETURNS, ROLLBACK, compensation_of
from celery_durable.core.plan import Plan
from celery_durable.core.rollback import compensate
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForChild, ForSignal, Token
from celery_durable.errors import ErrorRecord
from tests.model.decisions import check_law
from tests.unit.nodes import (
    AWAITING,
    CHILD,
    EVERYTHING,
    FORKED,
    MAPPED,
    RESERVED,
    SLEEPING,
    STARTED,
    WITH_CHILD,
    branch,
    case,
    choosing,
    item,
    iteration,
)
from tests.unit.values import BEGAN, NOW, at

ERROR = ErrorRecord("ValueError", "no", unit="somewhere")
PLAN = replace(EVERYTHING, returns=True)
FAILING = replace(
    PLAN,
    nodes=tuple(
        replace(node, **changes)  # type: ignore[arg-type]
        for node in PLAN.nodes
        for changes in [
            {
                "checks": {"fail_fast": True},
                "lines": {"keeps_errors": True, "max_concurrency": 2, "chunk": 2},
                "rail": {"default": None},
                "poll": {"fails_when_exhausted": True},
                "signoff": {"goes_on_without": True},
            }.get(node.name, {})
        ]
    ),
)
"""The same nodes with their other options."""


def waiting_for_signal(token: Token) -> Token:
    return replace(token, wait=ForSignal(token.unit), snapshot="1")


def waiting_for_child(token: Token) -> Token:
    return replace(token, wait=ForChild(CHILD))


def undoing(unit: str, **where: object) -> Token:
    return at(f"{unit}#compensate", rollback=Status.FAILED, **where)


FORWARD: dict[str, tuple[Token, ...]] = {
    "calls a step": (
        at("reserve"),
        at("reserve", attempt=2, snapshot="1", answer="2"),
        at("book", attempt=3),
        branch("fraud"),
        item(17),
        case("wire"),
        iteration(0),
        iteration(2, input="1"),
    ),
    "is suspended": tuple(
        waiting_for_signal(token)
        for token in (at("reserve"), branch("fraud"), item(17), case("wire"), iteration(1))
    ),
    "starts a child": (at("fulfil"), branch("stock", 1), case("card")),
    "waits for its child": (
        WITH_CHILD,
        waiting_for_child(branch("stock", 1)),
        waiting_for_child(case("card")),
    ),
    "comes to branches": (at("checks"),),
    "comes to a list": (at("lines"),),
    "waits for branches": (FORKED, MAPPED),
    "comes to a choice": (choosing(),),
    "comes to a sleep": (at("cooldown"),),
    "sleeps": (SLEEPING,),
    "comes to a signal": (at("signoff"),),
    "waits for a signal": (AWAITING,),
    "makes the result": (at(RETURNS),),
}

BACK: dict[str, tuple[Token, ...]] = {
    "undoes a step": (
        undoing("reserve"),
        undoing("reserve", attempt=5),
        undoing("checks#fraud", part="fraud", position=0),
        undoing("lines#17", position=17),
        undoing("rail", part="wire"),
        undoing("poll#2", position=2),
    ),
    "undoes a child": (undoing("fulfil"),),
    "waits for its child to be undone": (waiting_for_child(undoing("fulfil")),),
    "begins on the way back": (at(ROLLBACK, rollback=Status.CANCELLED),),
}

CALLED = "Failed Crashed Flagged"
HAPPENS: dict[str, str] = {
    "calls a step": f"{CALLED} Succeeded Suspended",
    "is suspended": "Signalled Elapsed Flagged",
    "starts a child": f"{CALLED} ChildRequested",
    "waits for its child": "ChildEnded",
    "comes to branches": "Arrived Flagged",
    "comes to a list": f"{CALLED} Listed",
    "waits for branches": "Joined",
    "comes to a choice": f"{CALLED} Chosen",
    "comes to a sleep": f"{CALLED} SleepRequested",
    "sleeps": "Elapsed Flagged",
    "comes to a signal": "Arrived Signalled Flagged",
    "waits for a signal": "Signalled Elapsed Flagged",
    "makes the result": f"{CALLED} Succeeded",
    "undoes a step": f"{CALLED} Succeeded",
    "undoes a child": f"{CALLED} ChildRequested",
    "waits for its child to be undone": "ChildEnded",
    "begins on the way back": "Arrived Flagged",
}
"""The events that the shell makes of a token at each place (`waiting`, `execute`, `engine`)."""

ONLY_UNDER_A_FLAG = {"is suspended", "sleeps", "waits for a signal"}
"""Where a token waits it is looked at for a flag, and for no other reason, without a due time."""

EVENTS: dict[str, tuple[Event, ...]] = {
    "Succeeded": (
        Succeeded("1", BEGAN, iteration=Iteration()),
        Succeeded("1", BEGAN, iteration=Iteration(is_done=True)),
        Succeeded("1", BEGAN, iteration=Iteration(next_input="2")),
        Succeeded("1", BEGAN, iteration=Iteration(error=ERROR)),
    ),
    "Failed": (
        Failed(ERROR, BEGAN),
        Failed(ERROR, BEGAN, may_retry=False),
        Failed(ERROR, BEGAN, delay=5.0, counts=False),
    ),
    "Crashed": (Crashed(ERROR, BEGAN),),
    "Flagged": (Flagged(), Flagged(due_in=5.0), Flagged(due_in=None)),
    "Suspended": (Suspended("1", BEGAN), Suspended("1", BEGAN, "approval", 30.0)),
    "Arrived": (Arrived(),),
    "Signalled": (Signalled(8, "1", BEGAN),),
    "Elapsed": (Elapsed(ERROR, BEGAN),),
    "SleepRequested": (SleepRequested(60.0, BEGAN), SleepRequested(-60.0, BEGAN)),
    "Chosen": (Chosen('"wire"', "wire", BEGAN), Chosen("0", None, BEGAN)),
    "Listed": (Listed(("1", "2", "3"), BEGAN), Listed((), BEGAN)),
    "ChildRequested": (ChildRequested(STARTED, BEGAN),),
    "ChildEnded": tuple(
        ChildEnded(CHILD, status, ERROR, BEGAN)
        for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
    ),
    "Joined": (Joined(None, BEGAN), Joined(ERROR, BEGAN)),
}

FLAGS = (Flags.NONE, Flags.CANCEL, Flags.CANCEL | Flags.COMPENSATE)
UNDOS = (None, RESERVED, Undo("lines#3", "lines", None, 3))

PLACES = FORWARD | BACK
HAPPENING = [(place, kind) for place in PLACES for kind in HAPPENS[place].split()]


def as_it_is(event: Event, token: Token) -> Event:
    """The event as it is for this token: only an iteration is asked whether it is the last."""
    is_iteration = token.node == "poll" and token.rollback is None
    if isinstance(event, Succeeded) and not is_iteration:
        return replace(event, iteration=None)
    return event


def happening(place: str, kind: str) -> Iterator[tuple[Plan, Token, Event, Undo | None]]:
    """Everything that is decided about this kind of event at this place."""
    for plan, token, flags, event, undo in product(
        (PLAN, FAILING), PLACES[place], FLAGS, EVENTS[kind], UNDOS
    ):
        if kind == "Flagged" and flags is Flags.NONE and place in ONLY_UNDER_A_FLAG:
            continue
        if place in BACK and kind == "ChildEnded" and event.status is Status.COMPLETED:  # type: ignore[union-attr]
            continue
        if token.parent is not None and undo is not None:
            continue  # a branch never turns back, so nobody asks for it
        if undo is not None and token.rollback and token.unit == compensation_of(undo.unit):
            continue  # what is being undone is not what is undone next
        yield plan, replace(token, flags=flags), as_it_is(event, token), undo


@pytest.mark.parametrize(("place", "kind"), HAPPENING, ids=map(" - ".join, HAPPENING))
def test_whatever_happens_is_decided_by_the_law(place: str, kind: str) -> None:
    decided = 0
    for plan, token, event, undo in happening(place, kind):
        found = decide(plan, token, event, NOW)
        if isinstance(found, RollBack):
            found = compensate(plan, found, undo)
        check_law(plan, token, event, found)
        decided += 1
    assert decided > 0


BACK_REFUSES = "Suspended Signalled Elapsed SleepRequested Chosen Listed Joined"

REFUSED: dict[str, str] = {
    "calls a step": "",
    "is suspended": "",
    "starts a child": "Listed",
    "waits for its child": "Listed",
    "comes to branches": "Chosen Listed",
    "comes to a list": "Arrived Chosen",
    "waits for branches": "Chosen",
    "comes to a choice": "Arrived Listed",
    "comes to a sleep": "Arrived Chosen Listed",
    "sleeps": "Arrived Chosen Listed",
    "comes to a signal": "Chosen Listed",
    "waits for a signal": "Chosen Listed",
    "makes the result": "Arrived Chosen Listed",
    "undoes a step": f"{BACK_REFUSES} Arrived",
    "undoes a child": f"{BACK_REFUSES} Arrived",
    "waits for its child to be undone": f"{BACK_REFUSES} Arrived",
    "begins on the way back": BACK_REFUSES,
}
"""What cannot happen at a place and is refused in every form; the shell alone sees to the rest."""


def is_refused(place: str, kind: str) -> bool:
    """Whether `decide` refuses every form of this event at every token of this place."""
    for plan, token, event in product((PLAN, FAILING), PLACES[place], EVENTS[kind]):
        try:
            decide(plan, token, as_it_is(event, token), NOW)
        except (AssertionError, KeyError):
            continue
        return False
    return True


@pytest.mark.parametrize("place", PLACES)
def test_what_cannot_happen_is_refused_as_listed_and_what_happens_never_is(place: str) -> None:
    listed = {kind for kind in REFUSED[place].split() if kind in EVENTS}
    assert listed.isdisjoint(HAPPENS[place].split())
    refused = {kind for kind in EVENTS if is_refused(place, kind)}
    assert refused == listed


def test_every_event_and_every_place_is_looked_at() -> None:
    assert set(HAPPENS) == set(PLACES)
    assert {kind for _, kind in HAPPENING} == set(EVENTS)
    assert {kind.__name__ for kind in Event.__args__} == set(EVENTS)
    nodes = {token.node for tokens in FORWARD.values() for token in tokens}
    assert nodes == {*PLAN.names, RETURNS}
