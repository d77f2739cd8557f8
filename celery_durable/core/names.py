"""Names of workflows and nodes, and the grammar of units.

A unit is what is journaled. Its name is its node's name, or the node's name, `#` and a part: a
step's unit is `charge`, its compensation `charge#compensate`; a branch is `checks#fraud`, an item
`lines#17`, an iteration `poll#3`, the choice of a route `rail#route`. `#` is reserved for that and
refused in names, so a unit can never be mistaken for a node.
"""

from __future__ import annotations

from celery_durable.errors import InvalidWorkflow

SEPARATOR = "#"
COMPENSATE = "compensate"
MAX_LENGTH = 200
HIGHEST_VERSION = 2**31 - 1

RETURNS = "#returns"
"""The unit that makes a run's result where the workflow says `.returns`."""

ROLLBACK = "#rollback"
"""Where the token of a completed run begins that is undone with its parent."""

ROUTE = "route"

ANY = "*"
"""Stands for every item, or every iteration, of a node: `lines#*`."""


def checked_name(kind: str, name: object) -> str:
    """`name` if it may be used for a `kind` (workflow, step, ...); `InvalidWorkflow` otherwise."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidWorkflow(f"A {kind} needs a name: a string that is not empty, not {name!r}.")
    if not _is_utf_8(name):
        raise InvalidWorkflow(f"The {kind} name {name!r} holds a lone surrogate; leave it out.")
    if SEPARATOR in name or "\0" in name:
        raise InvalidWorkflow(
            f"The {kind} name {name!r} holds a reserved character; leave out '#' and NUL."
        )
    if len(name) > MAX_LENGTH:
        raise InvalidWorkflow(
            f"The {kind} name {name[:20]!r}... has {len(name)} characters;"
            f" {MAX_LENGTH} is the limit."
        )
    return name


def _is_utf_8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def compensation_of(unit: str) -> str:
    """The unit that undoes `unit`."""
    return f"{unit}{SEPARATOR}{COMPENSATE}"


def compensated_by(unit: str) -> str:
    """The unit that the compensation unit `unit` undoes."""
    return unit.removesuffix(f"{SEPARATOR}{COMPENSATE}")


def subunit_of(node: str, part: str | int) -> str:
    """The unit of a branch, an item or an iteration of `node`."""
    return f"{node}{SEPARATOR}{part}"


def choice_of(node: str) -> str:
    """The unit that chooses the case of the route `node`."""
    return subunit_of(node, ROUTE)


def shared_name(
    unit: str, node: str, part: str | None, position: int | None, *, is_undone: bool
) -> str:
    """What units of one kind are called together: items and iterations as their node.

    A branch is `checks#fraud`, a case `rail#card`, the compensation of any item `lines#compensate`.
    """
    if part is None and position is None:
        return unit
    shared = node if part is None else subunit_of(node, part)
    return compensation_of(shared) if is_undone else shared
