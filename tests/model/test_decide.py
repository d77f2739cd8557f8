"""`decide` under every sequence of events: a pure simulation of the journal carries it out.

The small plans are explored exhaustively, larger ones at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import product
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_durable.core.decide import decide
from celery_durable.core.decision import End, JournalRecord, Move, Outcome, RollBack, Undo
from celery_durable.core.event import Crashed, Event, Failed, Flagged, Succeeded
from celery_durable.core.names import RETURNS, compensated_by, compensation_of
from celery_durable.core.nodes import Compensator, StepNode
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.rollback import compensate
from celery_durable.core.status import FINISHED, TRANSITIONS, Status
from celery_durable.core.token import Flags, Token
from celery_durable.core.units import unit_of
from celery_durable.errors import ErrorRecord
from tests.unit.values import undoable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ERROR = ErrorRecord("ValueError", "no")


class Happening(Enum):
    """What may happen to a token while it is looked at; the flags go up before, or during it."""

    SUCCESS = "success"
    FAILURE = "failure"
    RETRY_LATER = "retry later"
    GIVE_UP = "give up"
    CRASH = "crash"


class Cancel(Enum):
    """When a cancel arrives, if one does."""

    NONE = 0
    BEFORE = 1
    DURING = 2


@dataclass(frozen=True)
class Step:
    """One look at the token."""

    happening: Happening = Happening.SUCCESS
    cancel: Cancel = Cancel.NONE
    flags: Flags = Flags.CANCEL


@dataclass(frozen=True)
class World:
    """A run as the store would hold it. `executed` are the units whose callables were called."""

    plan: Plan
    token: Token | None
    status: Status = Status.RUNNING
    journal: tuple[JournalRecord, ...] = ()
    executed: tuple[str, ...] = ()
    accepted: Flags = Flags.NONE
    """The cancels that arrived before the run turned back or ended."""

    @classmethod
    def of(cls, plan: Plan) -> World:
        first = plan.nodes[0].name
        return cls(plan, Token(UUID(int=1), UUID(int=2), node=first, unit=first))

    def after(self, step: Step) -> World:
        """The world once the token has been looked at and what was decided is committed."""
        token = self.token
        assert token is not None
        if step.cancel is Cancel.BEFORE:
            token = raised(token, step.flags)
        world, event = self, self.event(token, step.happening)
        if not isinstance(event, Flagged | Crashed):
            world = dataclasses.replace(self, executed=(*self.executed, token.unit))
        if step.cancel is Cancel.DURING:
            token = raised(token, step.flags)
        return world.committed(token, event)

    def event(self, token: Token, happening: Happening) -> Event:
        if token.flags is not Flags.NONE:
            return Flagged()
        match happening:
            case Happening.SUCCESS:
                return Succeeded("1", NOW)
            case Happening.FAILURE:
                return Failed(ERROR, NOW)
            case Happening.RETRY_LATER:
                return Failed(ERROR, NOW, delay=1.0, counts=False)
            case Happening.GIVE_UP:
                return Failed(ERROR, NOW, may_retry=False)
            case Happening.CRASH:
                return Crashed(ERROR, NOW)

    def next_undo(self, token: Token) -> Undo | None:
        """The newest unit that can be undone, before the one whose undo is in hand."""
        units = [record.unit for record in self.journal if record.undoable]
        if token.rollback is not None:
            units = units[: units.index(compensated_by(token.unit))]
        return Undo(units[-1], units[-1]) if units else None

    def committed(self, token: Token, event: Event) -> World:
        decision = decide(self.plan, token, event, NOW)
        if isinstance(decision, RollBack):
            decision = compensate(self.plan, decision, self.next_undo(token))
        then = decision.then
        assert isinstance(then, Move | End), "a run of steps neither forks nor waits"
        assert decision.token == token, "the commit would not find the token as it is"
        status = self.status
        if decision.run is not None:
            if decision.run.status is not status:  # an error may be noted without a change
                assert decision.run.status in TRANSITIONS[status], (status, decision.run.status)
            status = decision.run.status
        world = dataclasses.replace(
            self,
            token=None if isinstance(then, End) else then.token,
            status=status,
            journal=self.journal + decision.records,
            accepted=self.accepted | (token.flags if token.rollback is None else Flags.NONE),
        )
        world.check()
        return world

    def check(self) -> None:
        """What holds in every state."""
        assert (self.token is None) is (self.status in FINISHED), "a run is stranded"
        units = [record.unit for record in self.journal]
        assert len(units) == len(set(units)), f"recorded twice: {units}"
        if self.token is not None:
            token = self.token
            assert token.unit not in units, "what is recorded is to run again"
            assert 1 <= token.attempt <= unit_of(self.plan, token).retry.max_attempts
            assert (token.rollback is not None) is (self.status is Status.COMPENSATING)

    def completed(self) -> list[str]:
        return [record.unit for record in self.journal if record.outcome is Outcome.COMPLETED]

    def undone(self) -> list[str]:
        """The units whose undo was tried to its end, in order."""
        return [compensated_by(r.unit) for r in self.journal if r.unit != compensated_by(r.unit)]

    def to_be_undone(self) -> list[str]:
        return [record.unit for record in reversed(self.journal) if record.undoable]

    def check_end(self) -> None:
        """What holds once the run has ended."""
        forward = [n.name for n in self.plan.nodes if n.name in self.completed()]
        assert forward == list(self.plan.names)[: len(forward)], "a node was left out"
        turned_back = self.status is Status.FAILED or self.accepted & Flags.COMPENSATE
        assert self.undone() == (self.to_be_undone() if turned_back else [])
        assert set(self.to_be_undone()) == set(undoable(self.plan)).intersection(forward)
        if self.status is Status.COMPLETED:
            assert self.completed() == list(self.plan.names), "completed, but not all of it"
            assert (RETURNS in self.executed) is self.plan.returns
        if self.status is Status.CANCELLED:
            assert Flags.CANCEL in self.accepted, "nobody asked for it"


def raised(token: Token, flags: Flags) -> Token:
    return dataclasses.replace(token, flags=token.flags | flags)


def walk(plan: Plan, steps: Iterable[Step]) -> Iterator[World]:
    """The worlds of a run to which `steps` happen, and from then on nothing but success."""
    world = World.of(plan)
    yield world
    for step in steps:
        if world.token is None:
            return
        world = world.after(step)
        yield world
    for _ in range(2 * len(plan.nodes) + 3):
        if world.token is None:
            return
        world = world.after(Step())
        yield world
    pytest.fail(f"the run does not end: {world}")


def retry(attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, jitter=False)


flags = st.sampled_from([Flags.CANCEL, Flags.CANCEL | Flags.COMPENSATE])
calm = st.builds(Step, st.sampled_from(Happening))
stormy = st.builds(Step, st.sampled_from(Happening), st.sampled_from(Cancel), flags)
successes = st.builds(Step)
steps = st.lists(successes | calm | stormy, max_size=25)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    attempts = st.integers(1, 3).map(retry)
    compensators = st.none() | attempts.map(Compensator)
    count = draw(st.integers(1, 6))
    nodes = [
        StepNode(f"n{i}", draw(attempts), compensator=draw(compensators)) for i in range(count)
    ]
    return Plan("order", 1, tuple(nodes), returns=draw(st.booleans()))


random = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@random
@given(plans(), steps)
def test_every_run_ends_and_keeps_the_law_on_its_way(plan: Plan, steps: list[Step]) -> None:
    *_, last = walk(plan, steps)
    last.check_end()


@random
@given(plans(), steps)
def test_once_a_cancel_was_seen_no_further_unit_is_executed_but_undos(
    plan: Plan, steps: list[Step]
) -> None:
    before = World.of(plan)
    for world in walk(plan, steps):
        if Flags.CANCEL in before.accepted:
            begun = set(world.executed[len(before.executed) :])
            assert begun <= {compensation_of(name) for name in plan.names}
        before = world


@random
@given(plans(), st.lists(stormy, max_size=25))
def test_cancelled_without_compensate_undoes_nothing(plan: Plan, steps: list[Step]) -> None:
    plain = [dataclasses.replace(step, flags=Flags.CANCEL) for step in steps]
    *_, last = walk(plan, plain)
    if last.status is Status.CANCELLED:
        assert last.undone() == []


def small_plans() -> Iterator[Plan]:
    for count in (1, 2, 3):
        for compensated in product([False, True], repeat=count):
            for returns in (False, True):
                nodes = tuple(
                    StepNode(f"n{i}", retry(2), compensator=Compensator(retry(2)) if has else None)
                    for i, has in enumerate(compensated)
                )
                yield Plan("order", 1, nodes, returns=returns)


EVERY_STEP = tuple(
    Step(happening, cancel, flags)
    for happening in Happening
    for cancel in Cancel
    for flags in (Flags.CANCEL, Flags.CANCEL | Flags.COMPENSATE)
    if cancel is not Cancel.NONE or flags is Flags.CANCEL
)


def state(world: World) -> object:
    """What the future of a world depends on, and what its end is judged by."""
    ended = tuple((record.unit, record.outcome) for record in world.journal)
    token = world.token and dataclasses.replace(world.token, failures=())
    return token, world.status, ended, world.accepted, frozenset(world.executed)


def test_every_reachable_state_of_every_small_plan_keeps_the_law() -> None:
    seen_endings: set[Status] = set()
    for plan in small_plans():
        start = World.of(plan)
        seen, open_worlds = {state(start)}, [start]
        while open_worlds:
            world = open_worlds.pop()
            if world.token is None:
                world.check_end()
                seen_endings.add(world.status)
                continue
            for step in EVERY_STEP:
                following = world.after(step)
                if state(following) not in seen:
                    seen.add(state(following))
                    open_worlds.append(following)
    assert seen_endings == FINISHED
