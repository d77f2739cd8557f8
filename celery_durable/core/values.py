"""`value` makes the classes of which every step makes several: tokens, claims, decisions.

Type checkers take it for `dataclass(frozen=True, slots=True)`, and refuse an assignment. While the
program runs nothing refuses it: a class that does takes three to four times as long to make an
object, for it sets each field through `object.__setattr__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen: bool, slots: bool, eq: bool = True) -> Any:
        """Make a dataclass that is compared and hashed like a frozen one."""
        return dataclass(slots=slots, eq=eq, unsafe_hash=frozen and eq)


__all__ = ["value"]
