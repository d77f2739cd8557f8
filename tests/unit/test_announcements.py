"""Which signals a decision is announced with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from celery_durable import signals
from celery_durable.core.child import NewRun, Parent
from celery_durable.core.decision import Decision, End, Park, RunChange
from celery_durable.core.event import Crashed, Event, Failed, Succeeded
from celery_durable.core.nodes import Routing
from celery_durable.core.status import FINISHED, Status
from celery_durable.core.token import ForChild, Token
from celery_durable.engine.announce import Announcement, announcements, started
from tests.unit import values
from tests.unit.values import BEGAN, DECLINED, LOST, NOW, RUN_ID, TOKEN_ID, at, claim, plan, undoing

ORDER = plan("a", "b", "c")
COMMON = {"run_id": RUN_ID, "version": 1}


def announced(token: Token, event: Event, **of_claim: Any) -> list[Announcement]:
    decision = values.decide(ORDER, token, event, NOW)
    return [*announcements(claim(token, **of_claim), decision, event)]


def failed(**how: Any) -> Failed:
    return Failed(DECLINED, BEGAN, **how)


def test_a_step_that_goes_on_to_the_next_is_not_announced() -> None:
    assert not announced(at("a"), Succeeded("1", BEGAN))


def test_the_last_step_is_announced_as_the_end_of_the_run() -> None:
    assert announced(at("c"), Succeeded("1", BEGAN)) == [
        Announcement(signals.run_completed, "order", COMMON)
    ]


def test_a_failed_try_is_announced_with_what_comes_next() -> None:
    about = {"unit": "b", "attempt": 2, "error": DECLINED, "delay": 10.0}
    assert announced(at("b", attempt=2), failed()) == [
        Announcement(signals.unit_retried, "order", {**COMMON, **about})
    ]


def test_a_try_that_does_not_count_is_announced_too() -> None:
    (one,) = announced(at("b"), failed(delay=3.0, counts=False))
    assert (one.signal, one.arguments["delay"]) == (signals.unit_retried, 3.0)


@pytest.mark.parametrize("event", [failed(may_retry=False), Crashed(LOST, BEGAN)])
def test_a_final_failure_is_announced_and_then_the_end_of_the_run(event: Any) -> None:
    about = {"unit": "b", "attempt": 1, "error": event.error}
    assert announced(at("b"), event) == [
        Announcement(signals.unit_failed, "order", {**COMMON, **about}),
        Announcement(signals.run_failed, "order", {**COMMON, "error": event.error}),
    ]


def test_the_end_of_a_rollback_is_announced_with_the_error_that_began_it() -> None:
    (one,) = announced(undoing("a"), Succeeded("null", BEGAN), error=DECLINED)
    assert (one.signal, one.arguments["error"]) == (signals.run_failed, DECLINED)


def test_the_end_of_a_cancel_is_announced_as_a_cancel() -> None:
    (one,) = announced(undoing("a", Status.CANCELLED), Succeeded("null", BEGAN))
    assert one == Announcement(signals.run_cancelled, "order", COMMON)


def test_every_end_of_a_run_is_announced() -> None:
    for status in FINISHED:
        decision = Decision(at("a"), End(), (), RunChange(status, DECLINED))
        (one,) = announcements(claim(at("a")), decision)
        assert one.signal.name == f"run_{status}"


def test_a_child_is_announced_as_started() -> None:
    parent = Parent(TOKEN_ID, RUN_ID, RUN_ID, 0)
    new = NewRun(
        *(UUID(int=1), UUID(int=2), UUID(int=3), "child", 4, "a", "a", "durable", "null"),
        key="k",
        parent=parent,
    )
    waiting = replace(at("a"), wait=ForChild(new.id))
    decision = Decision(at("a"), Park(waiting, Routing()), starts=new)
    assert [*announcements(claim(at("a")), decision)] == [started(new)]
    assert started(new) == Announcement(
        signals.run_started,
        "child",
        {"run_id": new.id, "version": 4, "key": "k", "parent_run_id": RUN_ID},
    )


def test_every_signal_tells_what_it_says_it_tells() -> None:
    """Those of the run are looked at where a run is (`test_run_signals`)."""
    told = [*announced(at("b"), failed()), *announced(at("b"), failed(may_retry=False))]
    told += announced(at("c"), Succeeded("1", BEGAN))
    for one in told:
        named: Any = one.signal
        assert named.providing_args == {"workflow", *one.arguments}
