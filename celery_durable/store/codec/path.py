"""Where in a value something is, said when it is refused."""

from __future__ import annotations

from typing import NoReturn

from celery_durable.errors import NotSerializable

MOST_NESTED = 100
"""Levels of containers and objects that one value may have; inputs, results, items and signals
alike. Readers in any language manage as many, and Postgres too.
"""


LONGEST_PART, MOST_PARTS = 200, 20
"""A place is for people; of a long key, and of many levels, the beginning says enough."""


class ValuePath:
    """A value's place in the whole: its parent's, and what leads from there to it."""

    __slots__ = ("depth", "parent", "part")

    def __init__(self, part: str, parent: ValuePath | None = None) -> None:
        self.part = part
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1

    def __str__(self) -> str:
        parts: list[str] = []
        at: ValuePath | None = self
        while at is not None:
            parts.append(at.part if len(at.part) <= LONGEST_PART else f"{at.part[:LONGEST_PART]}…")
            at = at.parent
        if len(parts) > MOST_PARTS:
            parts[MOST_PARTS // 2 : -MOST_PARTS // 2] = ["…"]
        return "".join(reversed(parts))

    def refuse(self, value: object, why: str) -> NoReturn:
        """Say that `value`, which is here, cannot be stored."""
        raise NotSerializable(str(self), type(value).__qualname__, why)
