"""What a scenario is made of, and what is asked of both it and the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.model.bundles.rules import Rules
from tests.model.bundles.state import Mishaps, Row, State, Worker

Unit = tuple[int, int]
"""A token and the number of its unit."""


@dataclass(frozen=True)
class Shape:
    """What a token is, and stays. A parent has no units: it waits for its branches, then ends."""

    run: int
    units: int = 1
    parent: int | None = None


@dataclass(frozen=True)
class Scenario:
    """A small world. Ids of tokens are their places in `shapes`.

    `releasing`: the move from this unit releases the claim. `killing`: whatever executes it dies.
    `failing`: it fails. `refused`: Postgres does not take its result. `waiting_for`: its handler
    returns only once another token has ended. `fails_fast`: the parents whose nodes do.
    `single`: tokens that were marked so after the relay had looked at them.
    """

    name: str
    shapes: tuple[Shape, ...]
    messages: tuple[tuple[int, ...], ...]
    workers: int = 1
    mishaps: Mishaps = field(default_factory=Mishaps)
    has_guard: bool = False
    time_passes: bool = False
    max_crashes: int = 3
    releasing: frozenset[Unit] = frozenset()
    killing: frozenset[Unit] = frozenset()
    failing: frozenset[Unit] = frozenset()
    refused: frozenset[Unit] = frozenset()
    waiting_for: Mapping[Unit, int] = field(default_factory=dict)
    fails_fast: frozenset[int] = frozenset()
    single: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Model:
    """A scenario under rules."""

    scenario: Scenario
    rules: Rules

    def begin(self) -> State:
        """The first state."""
        shapes = self.scenario.shapes
        return State(
            rows=tuple(self._row(token) for token in range(len(shapes))),
            locks=("",) * (len(shapes) + len({shape.run for shape in shapes})),
            journal=frozenset(),
            outbox=frozenset(),
            broker=tuple(sorted(self.scenario.messages)),
            commands=frozenset(),
            workers=tuple(Worker(n + 1) for n in range(self.scenario.workers)),
            ended=frozenset(),
            ops=(),
            left=self.scenario.mishaps,
        )

    def _row(self, token: int) -> Row:
        parent = self.parent(token)
        is_single = parent in self.scenario.fails_fast and self.rules.fail_fast_is_single
        is_single = is_single or token in self.scenario.single
        return Row(single=is_single, remaining=len(self.branches(token)))

    def run(self, token: int) -> int:
        return self.scenario.shapes[token].run

    def run_row(self, run: int) -> int:
        """The place of the run's row among the locks."""
        return len(self.scenario.shapes) + run

    def parent(self, token: int) -> int | None:
        return self.scenario.shapes[token].parent

    def branches(self, token: int) -> tuple[int, ...]:
        shapes = self.scenario.shapes
        return tuple(n for n, shape in enumerate(shapes) if shape.parent == token)

    def is_parent(self, token: int) -> bool:
        return bool(self.branches(token))

    def tokens(self, run: int) -> tuple[int, ...]:
        """The tokens of a run: branches before parents, by id."""
        shapes = self.scenario.shapes
        mine = (n for n, shape in enumerate(shapes) if shape.run == run)
        return tuple(sorted(mine, key=lambda n: (shapes[n].parent is None, n)))

    def is_last(self, token: int, unit: int) -> bool:
        return unit + 1 >= self.scenario.shapes[token].units
