"""The kinds of nodes: each answers for itself.

`NodeKind` lists the questions, with the answers of a node that calls nothing. A new kind is a class
here, its events in `waits` or `progress`, its method of the builder, and its picture in `diagram`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Literal

from celery_durable.core.names import choice_of, subunit_of
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.token import Token

ONCE = RetryPolicy(max_attempts=1)
"""For what is no step (`until`, selectors, children, ...): what it raises fails the node."""


class Gathers(StrEnum):
    """Where the result is of a unit that has none of its own; it is put together when read."""

    BRANCHES = "branches"
    """A mapping of branch names to results."""
    ITEMS = "items"
    """The list of the items' results, in order."""
    ITERATION = "iteration"
    """The last iteration's."""
    CHILD = "child"
    """The child run's."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a unit's message goes, and how many seconds the unit may take.

    `queue=None` is `durable_queue`; `priority=None` the run's; `time_limit=None` for ever.
    """

    queue: str | None = None
    priority: int | None = None
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Compensator:
    """How a completed unit is undone."""

    retry: RetryPolicy
    routing: Routing = Routing()
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many items of a map may fail for good: a number, or a percentage, rounded down."""

    items: int = 0
    percent: Decimal | None = None

    def of(self, total: int) -> int:
        """Return how many of `total` items may fail."""
        return self.items if self.percent is None else int(total * self.percent / 100)

    def as_data(self) -> int | str:
        """What is stored of it: as users say it."""
        return self.items if self.percent is None else f"{self.percent}%"


class NodeKind:
    """What a plan asks a node, whatever its kind."""

    __slots__ = ()

    kind: ClassVar[str]
    """The word for it in stored plans, pictures and errors."""
    gathers: ClassVar[Gathers | None] = None
    """Where the node's result is once it has completed; None: in the journal."""
    has_own_unit: ClassVar[bool] = False
    """True if the node begins with a unit that executes no step: it chooses, lists or waits."""
    has_named_parts: ClassVar[bool] = False
    """True if a unit names its branch or case."""
    fail_fast: bool = False
    """True if the first branch that fails stops those that have not begun."""
    keeps_errors: bool = False
    """True if a failed branch is a result like any other."""
    chunk: int = 1
    """How many branches share a message."""

    name: str

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The steps and children in the node."""
        return ()

    def body(self, part: str | None) -> Body | None:
        """The step or child that a unit executes; `part` is its branch or case."""
        if not self.has_named_parts:
            return next(iter(self.bodies), None)
        return next((body for body in self.bodies if body.name == part), None)

    @property
    def first_unit(self) -> str:
        """The unit of a token that arrives."""
        return self.name

    @property
    def first_position(self) -> int | None:
        """The number of the iteration that it begins with, if it has iterations."""
        return None

    @property
    def first_routing(self) -> Routing:
        """Where a token's message goes that arrives."""
        return Routing()

    @property
    def only_waits(self) -> bool:
        """True if its own unit calls no function either: the token forks or parks at once."""
        return False

    def is_at_own_unit(self, token: Token) -> bool:
        """True if the token executes no step here, and no child."""
        return self.has_own_unit and token.parent is None and token.part is None

    def fits(self, token: Token) -> bool:
        """False if the token has marks of another kind: the node was one when the token arrived."""
        return token.parent is None and token.part is None and token.position is None

    def gathered_as(self, gathers: Gathers | None) -> bool:
        """True if this is how the node completes."""
        return gathers == self.gathers

    def tolerates(self, failed: int, total: int) -> bool:  # noqa: ARG002 - for those that do
        """True if the node completes although `failed` of its `total` branches have failed."""
        return False

    def as_data(self) -> dict[str, Any]:
        """What is stored of the node: no callables, no exception classes."""
        routing = self.first_routing
        return {
            "kind": self.kind,
            "name": self.name,
            "unit": self.first_unit,
            "queue": routing.queue,
            "priority": routing.priority,
            "time_limit": routing.time_limit,
        }


@dataclass(frozen=True, slots=True)
class StepNode(NodeKind):
    """A unit that calls one handler. `suspends`: a result may say that it waits for an answer."""

    kind = "step"

    name: str
    retry: RetryPolicy
    routing: Routing = Routing()
    transactional: bool = False
    compensator: Compensator | None = None
    suspends: bool = False

    @property
    def is_undoable(self) -> bool:
        """True if it has a compensator to call when the run is rolled back."""
        return self.compensator is not None

    @property
    def bodies(self) -> tuple[Body, ...]:
        return (self,)

    @property
    def first_routing(self) -> Routing:
        return self.routing

    def as_data(self) -> dict[str, Any]:
        return NodeKind.as_data(self) | self.as_part()

    def as_part(self) -> dict[str, Any]:
        """What is stored of it within another node."""
        return {"name": self.name, "queue": self.routing.queue, "compensated": self.is_undoable}


@dataclass(frozen=True, slots=True)
class ChildNode(NodeKind):
    """A unit that is a run of its own. `version=None` is the highest known when it starts.

    `cascade`: when the parent is rolled back, the completed child is undone too.
    """

    kind = "child"
    gathers = Gathers.CHILD
    retry: ClassVar[RetryPolicy] = ONCE
    routing: ClassVar[Routing] = Routing()
    transactional: ClassVar[bool] = False
    compensator: ClassVar[None] = None

    name: str
    workflow: str
    version: int | None = None
    cascade: bool = False

    @property
    def is_undoable(self) -> bool:
        """True if the completed child is undone with its parent."""
        return self.cascade

    @property
    def bodies(self) -> tuple[Body, ...]:
        return (self,)

    def as_data(self) -> dict[str, Any]:
        return NodeKind.as_data(self) | self.as_part()

    def as_part(self) -> dict[str, Any]:
        """What is stored of it within another node."""
        return {
            "name": self.name,
            "workflow": self.workflow,
            "version": self.version,
            "compensated": self.is_undoable,
        }


Body = StepNode | ChildNode
"""What a place that takes a step may hold. In a branch or a case it has that name."""


@dataclass(frozen=True, slots=True)
class ParallelNode(NodeKind):
    """Named branches, each a token of its own; the node ends when all have."""

    kind = "parallel"
    gathers = Gathers.BRANCHES
    has_own_unit = True
    has_named_parts = True

    name: str
    branches: tuple[Body, ...]
    fail_fast: bool = False

    @property
    def only_waits(self) -> bool:
        return True

    @property
    def bodies(self) -> tuple[Body, ...]:
        return self.branches

    def fits(self, token: Token) -> bool:
        return token.part is not None if _is_part(token) else NodeKind.fits(self, token)

    def as_data(self) -> dict[str, Any]:
        return NodeKind.as_data(self) | {
            "branches": [body.as_part() for body in self.branches],
            "fail_fast": self.fail_fast,
        }


@dataclass(frozen=True, slots=True)
class MapNode(NodeKind):
    """One branch for each item of a list that is made when the token arrives.

    At most `max_concurrency` items are open at a time; `chunk` of them share a message. As many may
    fail as `tolerance` says.
    """

    kind = "map"
    gathers = Gathers.ITEMS
    has_own_unit = True

    name: str
    item: Body
    max_concurrency: int | None = None
    chunk: int = 1
    fail_fast: bool = False
    keeps_errors: bool = False
    tolerance: Tolerance | None = None

    @property
    def bodies(self) -> tuple[Body, ...]:
        return (self.item,)

    def tolerates(self, failed: int, total: int) -> bool:
        return self.tolerance is not None and failed <= self.tolerance.of(total)

    def fits(self, token: Token) -> bool:
        if not _is_part(token):
            return NodeKind.fits(self, token)
        return token.part is None and token.position is not None

    def as_data(self) -> dict[str, Any]:
        return NodeKind.as_data(self) | {
            "item": self.item.as_part(),
            "max_concurrency": self.max_concurrency,
            "chunk": self.chunk,
            "fail_fast": self.fail_fast,
            "keeps_errors": self.keeps_errors,
            "tolerate": None if self.tolerance is None else self.tolerance.as_data(),
        }


@dataclass(frozen=True, slots=True)
class RouteNode(NodeKind):
    """One of several cases; which one is a unit of its own, journaled first.

    `default` is where an answer leads that names no case: a case, nothing at all (the result is
    then None), or a failure.
    """

    kind = "route"
    has_own_unit = True
    has_named_parts = True

    name: str
    cases: tuple[Body, ...]
    default: str | Literal[False] | None = False

    @property
    def bodies(self) -> tuple[Body, ...]:
        return self.cases

    @property
    def first_unit(self) -> str:
        return choice_of(self.name)

    def fits(self, token: Token) -> bool:
        return token.part is not None or token.unit == self.first_unit

    def gathered_as(self, gathers: Gathers | None) -> bool:
        """A case that is a child gathers its result; one that is a step, or no case, does not."""
        return gathers in (None, Gathers.CHILD)

    def as_data(self) -> dict[str, Any]:
        cases = [body.as_part() for body in self.cases]
        return NodeKind.as_data(self) | {"cases": cases, "default": self.default}


@dataclass(frozen=True, slots=True)
class LoopNode(NodeKind):
    """A body that is repeated, one unit for each iteration; `every` seconds between them."""

    kind = "loop"
    gathers = Gathers.ITERATION

    name: str
    repeated: Body
    max_iterations: int
    every: float = 0.0
    fails_when_exhausted: bool = False

    @property
    def bodies(self) -> tuple[Body, ...]:
        return (self.repeated,)

    @property
    def first_unit(self) -> str:
        return subunit_of(self.name, 0)

    @property
    def first_position(self) -> int | None:
        return 0

    @property
    def first_routing(self) -> Routing:
        return self.repeated.routing

    def fits(self, token: Token) -> bool:
        return token.parent is None and token.part is None and token.position is not None

    def as_data(self) -> dict[str, Any]:
        return NodeKind.as_data(self) | {
            "body": self.repeated.as_part(),
            "max_iterations": self.max_iterations,
            "every": self.every,
            "fails_when_exhausted": self.fails_when_exhausted,
        }


@dataclass(frozen=True, slots=True)
class SleepNode(NodeKind):
    """A time to wait. `seconds` is None where a function of the context says it."""

    kind = "sleep"
    has_own_unit = True

    name: str
    seconds: float | None = None

    def as_data(self) -> dict[str, Any]:
        return NodeKind.as_data(self) | {"seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class SignalNode(NodeKind):
    """A wait for a signal; `timeout` in seconds, None for ever.

    `schema`, JSON text, is what its data must fit. `assignees` are those who may answer; none of
    them: any operator; None: nobody is asked. `finds_assignees`: a function of the context says it.
    """

    kind = "signal"
    has_own_unit = True

    name: str
    signal: str
    timeout: float | None = None
    goes_on_without: bool = False
    schema: str | None = None
    assignees: tuple[str, ...] | None = None
    finds_assignees: bool = False

    @property
    def only_waits(self) -> bool:
        return not self.finds_assignees

    def as_data(self) -> dict[str, Any]:
        data = NodeKind.as_data(self) | {
            "signal": self.signal,
            "timeout": self.timeout,
            "goes_on_without": self.goes_on_without,
        }
        if self.schema is not None:
            data["schema"] = json.loads(self.schema)
        if self.assignees is not None:
            data["assignees"] = [*self.assignees]
        if self.finds_assignees:
            data["finds_assignees"] = True
        return data


Node = StepNode | ChildNode | ParallelNode | MapNode | RouteNode | LoopNode | SleepNode | SignalNode
"""One entry of a workflow."""


def _is_part(token: Token) -> bool:
    """True if the token is a branch, or undoes one."""
    return token.parent is not None or token.rollback is not None
