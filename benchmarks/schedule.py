"""How the time is shared among the parts, and what each is given to work with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.progress import Progress

from benchmarks.bench import Bench
from benchmarks.parts import PARTS
from benchmarks.services import Services

PUNCTUAL = 0.9
"""A part ends when the round that has begun is over, so it may take longer than its share."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How often, how long, and how long in all."""

    rounds: int
    seconds: float
    minutes: float
    large: bool = False


def benches(
    services: Services, names: Sequence[str], limits: Limits, only: str, shown: Progress
) -> Iterator[tuple[Bench, str]]:
    """What each part works with; time that one leaves is shared by those that follow."""
    ends = time.monotonic() + PUNCTUAL * 60 * limits.minutes
    left = sum(PARTS[name].minutes for name in names)
    task = shown.add_task("", total=left)
    for name in names:
        now, share, done = time.monotonic(), PARTS[name].minutes, shown.tasks[task].completed

        def say(words: str, part: float, share: float = share, done: float = done) -> None:
            shown.update(task, description=words, completed=done + share * part)

        say(name, 0.0)
        deadline = now + max(0.0, ends - now) * share / left
        rounds, length, large = limits.rounds, limits.seconds, limits.large
        yield Bench(services, rounds, length, deadline, large, only, say), name
        say(name, 1.0)
        left -= share
