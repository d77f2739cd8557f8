"""The search: every state that can be reached, breadth first, each once."""

from __future__ import annotations

from collections import deque

from tests.model.bundles import laws
from tests.model.bundles.laws import Broken
from tests.model.bundles.moves import moves
from tests.model.bundles.rules import Rules
from tests.model.bundles.scenario import Model, Scenario
from tests.model.bundles.state import State
from tests.model.bundles.symmetry import canonical

MOST = 200_000
"""States: more than any scenario has."""


ENDS = "P2: everything ends"
"""From every state, with no further mishap, some schedule ends every run."""


class Violation(AssertionError):
    """A law that a schedule breaks, with the schedule."""

    def __init__(self, scenario: Scenario, law: str, schedule: list[str]) -> None:
        steps = "\n".join(f"  {n:>2}. {label}" for n, label in enumerate(schedule, 1))
        super().__init__(f"{scenario}: {law}\n{steps}")
        self.law = law


class Walk:
    """A walk through all states of a model. States are numbered as they are reached."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._numbers: dict[State, int] = {}
        self._came: list[tuple[int, str]] = []
        self._before: list[list[int]] = []
        self._finished: list[int] = []

    def walk(self) -> int:
        """Visit every state, and check the laws; return how many states there are.

        Raises `Violation` for the first that is broken: no schedule is shorter.
        """
        queue: deque[tuple[int, State]] = deque()
        self._reach(self._model.begin(), -1, "", queue)
        while queue:
            number, state = queue.popleft()
            if any(state.rows):
                self._go_on(number, state, queue)
            else:
                self._finished.append(number)
        self._everything_ends()
        return len(self._came)

    def _go_on(self, number: int, state: State, queue: deque[tuple[int, State]]) -> None:
        is_stuck = True
        try:
            for label, after, is_mishap in moves(self._model, state):
                reached = self._reach(canonical(after), number, label, queue)
                if not is_mishap:
                    is_stuck = False
                    self._before[reached].append(number)
        except Broken as broken:
            raise self._violation(str(broken), number, "what comes next") from broken
        if is_stuck:
            raise self._violation(ENDS, number)

    def _reach(self, state: State, before: int, label: str, queue: deque[tuple[int, State]]) -> int:
        new = len(self._came)
        number = self._numbers.setdefault(state, new)
        if number == new:
            self._came.append((before, label))
            self._before.append([])
            assert number < MOST, f"{self._model.scenario}: too many states"
            try:
                laws.check(self._model, state)
            except Broken as broken:
                raise self._violation(str(broken), number) from broken
            queue.append((number, state))
        return number

    def _everything_ends(self) -> None:
        """From every state, with no further mishap, some schedule ends every run."""
        ending = set(self._finished)
        queue = deque(self._finished)
        while queue:
            for number in self._before[queue.popleft()]:
                if number not in ending:
                    ending.add(number)
                    queue.append(number)
        for number in range(len(self._came)):
            if number not in ending:
                raise self._violation(ENDS, number)

    def _violation(self, law: str, number: int, *last: str) -> Violation:
        labels = list(last)
        while number > 0:
            number, label = self._came[number]
            labels.append(label)
        return Violation(self._model.scenario, law, labels[::-1])


def walk(scenario: Scenario, rules: Rules | None = None) -> int:
    """Walk a scenario under rules; return the number of its states."""
    return Walk(Model(scenario, rules or Rules())).walk()
