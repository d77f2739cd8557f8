"""Puts the hints of several tokens into one message, where many are due.

A worker claims the tokens of a message together, and commits their units together
(`engine.bundle`): past a few due rows that is several times cheaper. With few rows each token has
its own message, so that they go to different workers and none waits for another.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from celery_durable.store import workers
from celery_durable.store.connection import Connection
from celery_durable.store.due import DueMessage


def size_of(most: int, due: int, slots: int) -> int:
    """Return how many tokens a message names if `due` rows are due.

    Every slot, which is what executes one message at a time, gets two messages at least.
    """
    return max(1, min(most, due // (2 * max(slots, 1))))


CROWDED_FROM = 7
"""The crowd (`due.Lane`) of hints that have 128 or more of their run before them: branches."""

BRANCHES = 4
"""How many times as many branches of a crowd as runs share a message.

A run executes several units with one message, a branch only one: a message, which costs its worker
as much as a dozen units, pays for itself later.
"""

Kind = tuple[str, bool]


def kind_of(message: DueMessage) -> Kind:
    """Return the queue of a hint, and whether it is one of a crowd."""
    return message.queue or "", message.crowd >= CROWDED_FROM


def bundled(messages: Sequence[DueMessage], sizes: Mapping[Kind, int]) -> Sequence[DueMessage]:
    """Return the messages with hints put together, at most `sizes[kind]` tokens in each.

    Only hints of one kind and priority are, and none that is `single`.
    """
    together: dict[tuple[object, ...], list[DueMessage]] = defaultdict(list)
    made: list[DueMessage] = []
    for message in messages:
        kind = kind_of(message)
        size = sizes.get(kind, 1)
        if size == 1 or not message.may_be_bundled:
            made.append(message)
            continue
        key = (message.task, kind, message.options.get("priority"))
        bundle = together[key]
        bundle.append(message)
        if len(bundle) == size:
            made.append(_one_of(together.pop(key)))
    return [*made, *map(_one_of, together.values())]


def _one_of(bundle: Sequence[DueMessage]) -> DueMessage:
    """Return one message for all; logs and Flower show it by its first token and their number."""
    first, *others = bundle
    if not others:
        return first
    shadow = f"{first.options.get('shadow', first.task)} +{len(others)}"
    return replace(
        first,
        args=[token for message in bundle for token in message.args],
        options={**first.options, "shadow": shadow},
        others=tuple(message.id for message in others),
        runs=tuple(dict.fromkeys(run for message in bundle for run in message.runs)),
    )


SLOTS_LAST = 1.0
"""Seconds for which the number of slots is not asked for again."""


class Bundler:
    """Puts hints together for one relay. `slots` is what its own worker has, 1 without one."""

    def __init__(self, most: int, slots: int) -> None:
        self._most = most
        self._own_slots = slots
        self._slots: dict[str, tuple[int, float]] = {}

    def bundled(
        self,
        connection: Connection,
        messages: Sequence[DueMessage],
        left_in: Callable[[str], int],
    ) -> Sequence[DueMessage]:
        """Return `messages` put together; `left_in` tells how many more are due in a queue."""
        due = Counter(kind_of(message) for message in messages if message.may_be_bundled)
        sizes = {
            (queue, is_crowd): size_of(
                self._most * BRANCHES if is_crowd else self._most,
                n + left_in(queue),
                self._slots_of(connection, queue),
            )
            for (queue, is_crowd), n in due.items()
            if self._most > 1 and n > 1
        }
        return bundled(messages, sizes) if sizes else messages

    def _slots_of(self, connection: Connection, queue: str) -> int:
        """A process registers at its first message, so that few may be known."""
        slots, until = self._slots.get(queue, (0, 0.0))
        now = time.monotonic()
        if now >= until:
            slots = max(workers.slots_of(connection, queue), self._own_slots)
            self._slots[queue] = slots, now + SLOTS_LAST
        return slots
