"""The scenarios that the design names, and those that a rule needs to be missed."""

from __future__ import annotations

from tests.model.bundles.scenario import Scenario, Shape
from tests.model.bundles.state import Mishaps

ENDS = (Shape(0), Shape(1))
"""Two runs of one step."""

THREE = (*ENDS, Shape(2))

STEPS = (Shape(0, units=2), Shape(1, units=2))
"""Two runs of two steps."""

MIXED = (Shape(0, units=2), Shape(1))

MAP = (Shape(0, parent=2), Shape(0, parent=2), Shape(0, units=0))
"""A map of two items: its branches are 0 and 1."""

MAP_OF_THREE = (*(Shape(0, parent=3) for _ in range(3)), Shape(0, units=0))

MAPS = (
    Shape(0, parent=4),
    Shape(1, parent=5),
    Shape(0, parent=4),
    Shape(1, parent=5),
    Shape(0, units=0),
    Shape(1, units=0),
)
"""Two maps of two items: 0 and 2 are branches of 4, 1 and 3 of 5."""

BOTH = ((0, 1),)

SCENARIOS = (
    Scenario("a bundle beside its guard", STEPS, BOTH, has_guard=True),
    Scenario("two bundles share a token", THREE, ((0, 1), (1, 2)), workers=2),
    Scenario("a bundle is doubled", MIXED, ((0, 1), (1, 0)), workers=2),
    Scenario(
        "a bundle is doubled, and one of it is released",
        STEPS,
        ((0, 1), (1, 0)),
        workers=2,
        releasing=frozenset({(0, 0)}),
    ),
    Scenario("a bundle and a cancel", STEPS, BOTH, time_passes=True, mishaps=Mishaps(cancels=1)),
    Scenario(
        "a map and a cancel",
        MAP,
        BOTH,
        time_passes=True,
        has_guard=True,
        mishaps=Mishaps(cancels=1),
    ),
    Scenario(
        "one given back, and a cancel", ENDS, BOTH, has_guard=True, mishaps=Mishaps(cancels=1)
    ),
    Scenario(
        "branches given back, and a cancel",
        MAP_OF_THREE,
        ((2, 1, 0),),
        has_guard=True,
        mishaps=Mishaps(cancels=1),
    ),
    Scenario(
        "a bundle of which one fails, and a cancel",
        MIXED,
        BOTH,
        time_passes=True,
        failing=frozenset({(1, 0)}),
        mishaps=Mishaps(cancels=1),
    ),
    Scenario("branches of two maps leave", MAPS, ((0, 1), (3, 2)), workers=2),
    Scenario("kill -9", STEPS, BOTH, mishaps=Mishaps(shots=1)),
    Scenario("kill -9 beside another worker", ENDS, BOTH, workers=2, mishaps=Mishaps(shots=1)),
    Scenario(
        "a unit that kills its process",
        ENDS,
        ((0, 1), (1, 0)),
        killing=frozenset({(0, 0)}),
        max_crashes=2,
    ),
    Scenario("one crash is enough", ENDS, BOTH, killing=frozenset({(0, 0)}), max_crashes=1),
    Scenario("a zombie", ENDS, BOTH, workers=2, time_passes=True, mishaps=Mishaps(declared=1)),
    Scenario(
        "a lost answer",
        STEPS,
        BOTH,
        mishaps=Mishaps(answers=1),
        releasing=frozenset({(0, 0)}),
    ),
    Scenario("a lost answer, and a cancel", MIXED, BOTH, mishaps=Mishaps(answers=1, cancels=1)),
    Scenario("the guard's answer is lost", MIXED, BOTH, has_guard=True, mishaps=Mishaps(answers=1)),
    Scenario("SystemExit in a handler", STEPS, BOTH, has_guard=True, mishaps=Mishaps(exits=1)),
    Scenario("a result that Postgres refuses", ENDS, BOTH, refused=frozenset({(0, 0)})),
    Scenario(
        "fail_fast",
        MAP_OF_THREE,
        ((1, 2), (0,)),
        workers=2,
        failing=frozenset({(0, 0)}),
        fails_fast=frozenset({3}),
    ),
    Scenario("a message is lost", MIXED, BOTH, mishaps=Mishaps(lost=1, rehints=1)),
    Scenario(
        "a slow unit before another",
        ENDS,
        BOTH,
        has_guard=True,
        waiting_for={(0, 0): 1},
        workers=2,
    ),
    Scenario("a slow unit after another", ENDS, ((1, 0),), has_guard=True, waiting_for={(0, 0): 1}),
    Scenario(
        "a slow unit, and a token that was skipped",
        ENDS,
        BOTH,
        has_guard=True,
        waiting_for={(0, 0): 1},
        workers=2,
        single=frozenset({1}),
    ),
    Scenario(
        "SystemExit, and a token that was skipped",
        ENDS,
        BOTH,
        mishaps=Mishaps(exits=1),
        single=frozenset({1}),
    ),
    Scenario(
        "a worker drains", STEPS, BOTH, workers=2, time_passes=True, mishaps=Mishaps(drains=1)
    ),
)
