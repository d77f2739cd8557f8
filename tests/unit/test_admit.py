"""What a worker does with a claim."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.core.admit import (
    HAND_OVER_AFTER,
    MISFIT_FIRST,
    PASS_ON_FIRST,
    PASS_ON_MAXIMUM,
    RELEASE_FIRST,
    RELEASE_MAXIMUM,
    SUSPECT_FIRST,
    Admission,
    Check,
    Conclude,
    Execute,
    Facts,
    Release,
    admit,
)
from celery_durable.core.event import Crashed, Failed, Flagged
from celery_durable.core.names import ROLLBACK
from celery_durable.core.nodes import ParallelNode, SignalNode, SleepNode, StepNode
from celery_durable.core.status import Status
from celery_durable.core.token import Flags, ForBranches, ForChild, ForSignal, ForTimer, Token
from tests.unit.values import DECLINED, NOW, RETRY, at, claim, node, plan

PLAN = plan(
    node("charge", compensated=True),
    StepNode("book", RETRY, transactional=True),
    ParallelNode("checks", (node("left"), node("right"))),
    SignalNode("payment", "paid"),
    SleepNode("pause", 1.0),
)
TIMED_OUT = Failed(DECLINED, NOW)
CANCEL = Flags.CANCEL
COMPENSATE = Flags.CANCEL | Flags.COMPENSATE


def facts(**changes: Any) -> Facts:
    return replace(Facts(PLAN, max_crashes=3), **changes)


def admitted(
    token: Token, *, waited: float = 0.0, draining: bool = False, **known: Any
) -> Admission:
    return admit(replace(claim(token), waited=waited, draining=draining), facts(**known))


@pytest.mark.parametrize(
    ("unit", "in_transaction"), [("charge", False), ("book", True), ("pause", False)]
)
def test_a_unit_with_something_to_call_is_executed(unit: str, in_transaction: bool) -> None:
    assert admitted(at(unit)) == Execute(in_transaction)


@pytest.mark.parametrize("rollback", [None, Status.FAILED])
@pytest.mark.parametrize("wait", [ForTimer(), ForSignal("paid"), ForChild(uuid4()), ForBranches(0)])
def test_what_waits_is_checked(wait: Any, rollback: Status | None) -> None:
    assert admitted(at("charge", wait=wait, rollback=rollback)) == Check()


@pytest.mark.parametrize("unit", ["checks", "payment"])
def test_a_node_that_calls_nothing_is_checked(unit: str) -> None:
    assert admitted(at(unit)) == Check()


def test_a_branch_of_such_a_node_is_executed() -> None:
    token = replace(at("checks#left"), parent=uuid4(), part="left")
    assert admitted(token) == Execute(in_transaction=False)


def test_a_rollback_that_has_just_begun_is_checked() -> None:
    assert admitted(at(ROLLBACK, rollback=Status.CANCELLED)) == Check()


@pytest.mark.parametrize("flags", [CANCEL, COMPENSATE])
def test_a_flag_that_is_up_concludes_the_unit(flags: Flags) -> None:
    """P3: nothing is called."""
    assert admitted(at("charge", flags=flags)) == Conclude(Flagged(0.0))
    assert admitted(at("charge", flags=flags, wait=ForTimer())) == Conclude(Flagged(0.0))


@pytest.mark.parametrize("wait", [ForChild(uuid4()), ForBranches(1)])
def test_a_parent_stays_until_those_it_waits_for_have_ended(wait: Any) -> None:
    """Whatever is asked of it."""
    assert admitted(at("charge", flags=COMPENSATE, wait=wait)) == Check()


def test_a_unit_whose_time_was_up_has_failed() -> None:
    token = at("charge", flags=Flags.TIMED_OUT)
    assert admitted(token, timed_out=TIMED_OUT) == Conclude(TIMED_OUT)


def test_a_cancel_goes_before_a_time_that_was_up() -> None:
    token = at("charge", flags=Flags.TIMED_OUT | CANCEL)
    assert admitted(token, timed_out=TIMED_OUT) == Conclude(Flagged(0.0))
    undoing = replace(token, rollback=Status.CANCELLED)
    assert admitted(undoing, timed_out=TIMED_OUT) == Conclude(TIMED_OUT)


def test_a_unit_that_has_killed_too_many_workers_is_not_executed() -> None:
    """P5"""
    assert admitted(at("charge", crashes=2)) == Execute(in_transaction=False)
    concluded = admitted(at("charge", crashes=3))
    assert isinstance(concluded, Conclude)
    assert isinstance(concluded.event, Crashed)
    assert concluded.event.error.message.startswith("3 workers died while they executed charge")


def test_a_worker_that_stops_begins_nothing() -> None:
    assert admitted(at("charge"), draining=True) == Release(HAND_OVER_AFTER)


def test_a_suspect_waits_for_the_other_one() -> None:
    """P5: what kills a process is counted against all that it executes."""
    assert admitted(at("charge", crashes=1), has_company=True) == Release(SUSPECT_FIRST)


def test_a_run_that_cannot_go_on_here_is_passed_on_soon_to_whoever_can() -> None:
    assert passed_on(is_elsewhere=True, chance=0.0) == PASS_ON_FIRST / 2
    assert passed_on(is_elsewhere=True, waited=99.0) == pytest.approx(PASS_ON_MAXIMUM, rel=0.01)


def test_a_run_that_nobody_can_go_on_with_is_left_alone_for_longer() -> None:
    assert passed_on(chance=0.0) == RELEASE_FIRST / 2
    assert passed_on(waited=4.0, chance=0.5) == pytest.approx(6.0)
    assert passed_on(waited=99.0) == pytest.approx(RELEASE_MAXIMUM, rel=0.01)


def passed_on(*, waited: float = 0.0, chance: float = 0.999, **known: Any) -> float:
    """After how many seconds."""
    released = admitted(at("charge"), waited=waited, plan=None, chance=chance, **known)
    assert isinstance(released, Release)
    return released.delay


def test_a_message_with_another_limit_is_sent_again_later_each_time() -> None:
    """The first at once: the hint was put while the token stood elsewhere."""
    delays = [admitted(at("charge"), misfits=times) for times in (1, 2, 3, 99)]
    assert delays == [
        Release(0.0),
        Release(MISFIT_FIRST),
        Release(2 * MISFIT_FIRST),
        Release(RELEASE_MAXIMUM),
    ]


def test_a_message_that_comes_late_is_sent_again_at_once() -> None:
    assert admitted(at("charge"), is_late=True, misfits=9, draining=True) == Release(0.0)


@given(
    unit=st.sampled_from(["charge", "book", "checks", "payment", "pause"]),
    crashes=st.integers(0, 5),
    flags=st.sampled_from([Flags.NONE, CANCEL, COMPENSATE, Flags.TIMED_OUT]),
    draining=st.booleans(),
    known=st.fixed_dictionaries(
        {
            "plan": st.sampled_from([PLAN, None]),
            "misfits": st.integers(0, 3),
            "is_late": st.booleans(),
            "has_company": st.booleans(),
            "is_elsewhere": st.booleans(),
            "chance": st.floats(0, 1, exclude_max=True),
        }
    ),
)
def test_nothing_is_executed_that_must_not_be(
    unit: str, crashes: int, flags: Flags, draining: bool, known: dict[str, Any]
) -> None:
    """P3, P4, P5: and whatever is given back is looked at again within a bounded time."""
    token = at(unit, crashes=crashes, flags=flags)
    timed_out = TIMED_OUT if flags is Flags.TIMED_OUT else None
    admission = admitted(token, draining=draining, timed_out=timed_out, **known)
    match admission:
        case Execute():
            assert flags is Flags.NONE
            assert crashes < 3
            assert known["plan"] is not None
            assert not any((draining, known["misfits"], known["is_late"], known["has_company"]))
        case Release(delay):
            assert 0 <= delay <= RELEASE_MAXIMUM
        case Check() | Conclude():
            assert not draining
