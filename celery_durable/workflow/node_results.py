"""Checks what a node's own function returns: items, a choice, a duration; makes it an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import Enum

from celery_durable.arguments import names_of
from celery_durable.core.claim import Claim
from celery_durable.core.event import Arrived, Chosen, Listed, SleepRequested
from celery_durable.core.nodes import MapNode, RouteNode, SignalNode, SleepNode
from celery_durable.core.plan import MOST_ITEM_BYTES, MOST_ITEMS
from celery_durable.errors import LONGEST, PayloadTooLarge, UnknownRoute, number_of_seconds

Encode = Callable[[object, str], str]


def listed_event(node: MapNode, answer: object, claim: Claim, encode: Encode) -> Listed:
    """Return the event of a map whose `over` has returned `answer`."""
    return Listed(items(node, answer, encode), claim.seen_at)


def items(node: MapNode, answer: object, encode: Encode) -> tuple[str, ...]:
    """Return the items of a map, each as JSON text.

    Raises `TypeError` if `answer` is no list, `ValueError` or `PayloadTooLarge` if it is too long.
    """
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        raise TypeError(
            f"over= of {node.name!r} returned {type(answer).__name__}; a map needs a list of items."
        )
    texts: list[str] = []
    size = 0
    for item in answer:
        if len(texts) == MOST_ITEMS:
            raise ValueError(
                f"over= of {node.name!r} returned more than {MOST_ITEMS} items; split the work"
                " over several runs, or make each item a batch."
            )
        text = encode(item, f"item {len(texts)} of {node.name}")
        size += len(text) if text.isascii() else len(text.encode())
        if size > MOST_ITEM_BYTES:
            what = f"the list of items of {node.name}, up to item {len(texts)},"
            raise PayloadTooLarge(what, size, MOST_ITEM_BYTES, None)
        texts.append(text)
    return tuple(texts)


def chosen_event(node: RouteNode, answer: object, claim: Claim, encode: Encode) -> Chosen:
    """Return the event of a route whose selector has answered.

    Raises `UnknownRoute` if the answer names no case and the route has no default.
    """
    key = answer.value if isinstance(answer, Enum) else answer
    text = encode(key, f"the answer of {claim.token.unit}")
    known = [case.name for case in node.cases]
    if isinstance(key, str) and key in known:
        return Chosen(text, key, claim.seen_at)
    if node.default is not False:
        return Chosen(text, node.default, claim.seen_at)
    raise UnknownRoute(
        f"The selector of {node.name!r} answered {key!r}; the cases are {', '.join(known)}."
        " Name one of them, or give the route a default=."
    )


def arrived_event(node: SignalNode, answer: object) -> Arrived:
    """Return the event of a wait whose function has said who may answer."""
    try:
        return Arrived(names_of(answer))
    except (TypeError, ValueError) as error:
        raise type(error)(f"assignees= of {node.name!r} returned no names: {error}") from None


def sleep_event(node: SleepNode, duration: object, claim: Claim) -> SleepRequested:
    """Return the event of a sleep: `duration` is seconds, a timedelta or an aware datetime."""
    if isinstance(duration, datetime):
        if duration.tzinfo is None:
            raise ValueError(
                f"The duration of {node.name!r} is the datetime {duration} without a time zone;"
                " return an aware one."
            )
        # The claim's time is the database's, and no later than now: a sleep is never too short.
        left = (duration - claim.seen_at).total_seconds()
        if left > LONGEST:
            raise ValueError(
                f"The duration of {node.name!r} is {duration}, more than 100 years from now."
            )
        return SleepRequested(left, claim.seen_at)
    seconds = number_of_seconds(duration)
    if seconds is None:
        raise TypeError(
            f"The duration of {node.name!r} is {type(duration).__name__}; it must be seconds, a"
            " timedelta or an aware datetime."
        )
    if not 0 <= seconds <= LONGEST:
        raise ValueError(
            f"The duration of {node.name!r} is {seconds} s; it must be from 0 to 100 years."
        )
    return SleepRequested(float(seconds), claim.seen_at)
