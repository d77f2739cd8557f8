"""The path in a value to one of its parts, for the error that refuses it."""

from __future__ import annotations

from typing import NoReturn

from celery_durable.errors import NotSerializable

MOST_NESTED = 100
"""Levels of containers and objects that one value may have: an input, a result, an item, a signal.
Postgres and readers in any language manage as many.
"""

LONGEST_PART, MOST_PARTS = 200, 20
"""A path is for people: of a long key, and of many levels, the beginning says enough."""


class ValuePath:
    """The path of a value: that of its parent, and the part that leads from there to the value."""

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
        """Raise `NotSerializable` for `value`, which is at this path."""
        raise NotSerializable(str(self), type(value).__qualname__, why)
