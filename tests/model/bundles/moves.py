"""What may happen in a state: everything that one actor can do next, and every mishap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.bundles import background, executor
from tests.model.bundles.guard import guard_moves
from tests.model.bundles.scenario import Model
from tests.model.bundles.state import State


class Move(NamedTuple):
    """What happens, and the state after it. Mishaps need not happen."""

    label: str
    after: State
    is_mishap: bool = False


def moves(m: Model, s: State) -> Iterator[Move]:
    """All moves of a state."""
    for n in range(len(s.workers)):
        for label, after in executor.executor_moves(m, s, n):
            yield Move(label, after)
        for label, after in guard_moves(m, s, n):
            yield Move(label, after)
    for label, after in background.background_moves(m, s):
        yield Move(label, after)
    for label, after in background.mishaps(m, s):
        yield Move(label, after, is_mishap=True)
