"""Reasons made of facts: the first thing that is not as it must be is the reason (P11)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from celery_durable.core.failure import FailedAttempt
from celery_durable.core.pause import Pause, Paused
from celery_durable.core.reason import Code, Diagnosis, Reason
from celery_durable.core.situation import (
    RELAY_IS_GONE_AFTER,
    Consumer,
    Facts,
    Hint,
    Locker,
    SeenRelay,
    Standing,
)
from celery_durable.core.status import Status
from celery_durable.core.token import (
    Flags,
    ForBranches,
    ForChild,
    ForOperator,
    ForSignal,
    ForTimer,
    Token,
    Wait,
)
from celery_durable.core.why import DEAF_AFTER, PUT_BACK_FOR, SOON, explain
from celery_durable.errors import ErrorRecord

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LONG_AGO = NOW - timedelta(hours=1)
LATER = NOW + timedelta(minutes=5)
RUN, CHILD, WORKER = UUID(int=1), UUID(int=2), UUID(int=3)
TOKEN = Token(UUID(int=4), RUN, "charge", "charge")
DECLINED = FailedAttempt(1, ErrorRecord("Declined", "no money"), LONG_AGO, LONG_AGO)
AT_CHARGE = Standing(TOKEN, since=LONG_AGO, hinted_at=LONG_AGO, queue="durable", begun=True)
IN_OUTBOX = replace(AT_CHARGE, hint=Hint())
IDLE = Consumer(
    WORKER,
    hostname="w1@host",
    pid=77,
    queues=frozenset({"durable"}),
    knows={"order@1": ["charge"]},
    slots=2,
    busy=0,
    expires_at=LATER,
)
RELAY = SeenRelay("w1@host", 70, NOW)
FACTS = Facts(
    at=NOW,
    run_id=RUN,
    workflow="order",
    version=1,
    status=Status.RUNNING,
    tokens=[AT_CHARGE],
    workers=[IDLE],
    relays=[RELAY],
)


def standing(one: Standing = AT_CHARGE, **changes: Any) -> Facts:
    """The facts of a run whose token stands so; the changes are of its token."""
    return replace(FACTS, tokens=[replace(one, token=replace(one.token, **changes))])


def reason(facts: Facts) -> Reason:
    """The only reason."""
    (only,) = explain(facts).reasons
    return only


def test_a_run_that_has_ended() -> None:
    ended = replace(
        FACTS, status=Status.FAILED, tokens=[], finished_at=LONG_AGO, error="Declined: no money"
    )
    remedy = f"Mend the cause, then:\ncelery -A <app> durable retry {RUN}"
    text = "The run has ended, failed: Declined: no money"
    assert reason(ended) == Reason(Code.ENDED, text, LONG_AGO, help=remedy, run_id=RUN)
    assert reason(replace(ended, status=Status.COMPLETED)).help == ""
    again = replace(ended, retried_as=CHILD)
    assert reason(again).text.endswith(f"; it was tried again as run {CHILD}")
    assert reason(again).help == ""


def test_a_wait_for_a_signal_names_it_and_what_came_instead() -> None:
    waiting = replace(AT_CHARGE, waiting_since=LONG_AGO, wake_at=LATER)
    facts = replace(standing(waiting, wait=ForSignal("paid")), signals={"payed": LONG_AGO})
    found = reason(facts)
    assert (found.code, found.since, found.until) == (Code.SIGNAL, LONG_AGO, LATER)
    assert found.text == (
        "charge waits for the signal paid; signals of other names have come: payed"
    )
    assert found.help == f"celery -A <app> durable resume {RUN} paid"


def test_a_sleep() -> None:
    asleep = replace(AT_CHARGE, waiting_since=LONG_AGO, wake_at=LATER)
    found = reason(standing(asleep, wait=ForTimer()))
    assert (found.code, found.until) == (Code.SLEEPING, LATER)


def test_a_child_brings_its_own_reasons() -> None:
    why = Reason(Code.SLEEPING, "it sleeps", run_id=CHILD)
    child = Diagnosis(CHILD, Status.SLEEPING, NOW, (why,))
    facts = replace(standing(wait=ForChild(CHILD)), children={CHILD: child})
    assert (reason(facts).code, reason(facts).inner) == (Code.CHILD, (why,))
    assert reason(facts).run_id == RUN


def test_branches_with_the_same_reason_are_one() -> None:
    parent = replace(AT_CHARGE, token=replace(TOKEN, wait=ForBranches(3)))
    waits: list[Wait] = [ForTimer(), ForSignal("go"), ForTimer()]
    branches = [
        replace(
            AT_CHARGE,
            token=replace(TOKEN, id=uuid4(), unit=f"m#{n}", parent=TOKEN.id, wait=wait),
            waiting_since=LONG_AGO + n * SECOND,
            wake_at=LATER,
        )
        for n, wait in enumerate(waits)
    ]
    found = reason(replace(FACTS, tokens=[parent, *branches]))
    assert (found.code, found.text) == (Code.BRANCHES, "charge waits for 3 of its branches")
    assert [inner.text for inner in found.inner] == [
        "m#1 waits for the signal go",
        "m#0 sleeps (and 1 more like it)",
    ]


def test_a_cancel_waits_for_branches_and_ends_other_waits() -> None:
    fork, wait = ForBranches(1), ForSignal("go")
    assert reason(standing(wait=fork, flags=Flags.CANCEL)).code is Code.BRANCHES
    assert reason(standing(wait=wait, flags=Flags.CANCEL)).code is Code.DEAF


def test_the_next_try_shows_the_error_of_the_last() -> None:
    facts = standing(replace(AT_CHARGE, wake_at=LATER), attempt=2, failures=(DECLINED,))
    found = reason(facts)
    assert (found.code, found.until) == (Code.RETRYING, LATER)
    assert found.text == "charge is tried again, attempt 2, after Declined: no money"
    (one,) = facts.tokens
    for most, attempt in ((5, "attempt 2 of 5"), (1, "attempt 2")):  # a plan may have changed
        known = replace(facts, tokens=[replace(one, max_attempts=most)])
        assert reason(known).text == f"charge is tried again, {attempt}, after Declined: no money"


def test_a_run_that_begins_later() -> None:
    delayed = replace(
        standing(replace(AT_CHARGE, begun=False, wake_at=LATER)), status=Status.PENDING
    )
    assert (reason(delayed).code, reason(delayed).until) == (Code.DELAYED, LATER)


def test_what_is_executed_says_where_and_what_it_said_last() -> None:
    executed = replace(AT_CHARGE, claimed_by=WORKER, progress="40%, page 3", deadline_at=LATER)
    found = reason(standing(executed))
    assert (found.code, found.since, found.until) == (Code.EXECUTING, LONG_AGO, LATER)
    assert found.text == ("charge is being executed on w1@host, pid 77; it last said: 40%, page 3")
    suspect = replace(executed, token=replace(executed.token, crashes=2))
    assert "pid 77; before, its worker died 2 times; it last" in reason(standing(suspect)).text


@pytest.mark.parametrize(
    "workers",
    [[], [replace(IDLE, is_dead=True)], [replace(IDLE, expires_at=LONG_AGO)]],
    ids=["declared dead", "its lock is free", "it does not renew"],
)
@pytest.mark.parametrize("relays", [[RELAY], []], ids=["a relay", "none"])
def test_a_worker_that_is_gone(workers: list[Consumer], relays: list[SeenRelay]) -> None:
    """Relays take over; without one somebody has to start one."""
    facts = standing(replace(AT_CHARGE, claimed_by=WORKER))
    found = reason(replace(facts, workers=workers, relays=relays))
    assert found.code is Code.WORKER_LOST
    assert found.help == ("" if relays else "celery -A <app> worker -Q durable")


def test_a_cancel_comes_before_what_it_waits_for() -> None:
    executed = standing(replace(AT_CHARGE, claimed_by=WORKER), flags=Flags.CANCEL)
    facts = replace(executed, cancel_requested_at=LONG_AGO, cancel_reason="too late")
    found = explain(facts).reasons
    assert [one.code for one in found] == [Code.CANCELLING, Code.EXECUTING]
    assert "(too late)" in found[0].text


def test_a_lock_of_somebody_else() -> None:
    locker = Locker(4711, "ada", "idle in transaction", LONG_AGO)
    found = explain(replace(FACTS, lockers=[locker])).reasons[0]
    assert found.code is Code.LOCKED
    assert found.help.splitlines()[-1] == "SELECT pg_terminate_backend(4711)"
    assert "ada (idle in transaction, pid 4711)" in found.text


def test_a_message_that_the_broker_refuses() -> None:
    refused = replace(IN_OUTBOX, hint=Hint(LATER, tries=3, error="PRECONDITION_FAILED"))
    found = reason(standing(refused))
    assert (found.code, found.until) == (Code.REFUSED, LATER)
    assert found.text.endswith("refused the message of charge 3 times: PRECONDITION_FAILED")


def test_no_relay() -> None:
    gone = replace(RELAY, seen_at=NOW - RELAY_IS_GONE_AFTER)
    found = reason(replace(standing(IN_OUTBOX), relays=[gone], workers=[]))
    assert (found.code, found.help) == (Code.NO_RELAY, "celery -A <app> worker -Q durable")


def test_no_relay_can_reach_the_broker() -> None:
    away = replace(RELAY, outage="connection refused", outage_since=LONG_AGO)
    facts = standing(IN_OUTBOX)
    found = reason(replace(facts, relays=[away]))
    assert (found.code, found.since) == (Code.BROKER_UNAVAILABLE, LONG_AGO)
    assert found.text.endswith("pid 70, cannot publish: connection refused")
    assert reason(replace(facts, relays=[away, RELAY])).code is Code.UNPUBLISHED


def test_a_message_that_has_just_been_put_is_on_its_way() -> None:
    new = replace(IN_OUTBOX, since=NOW - SOON + SECOND)
    assert reason(standing(new)).code is Code.ON_ITS_WAY
    assert reason(replace(standing(new), relays=[])).code is Code.ON_ITS_WAY


@pytest.mark.parametrize(
    "worker",
    [
        replace(IDLE, queues=frozenset({"other"})),
        replace(IDLE, draining=True),
        replace(IDLE, is_dead=True),
        replace(IDLE, expires_at=LONG_AGO),
    ],
    ids=["another queue", "stopping", "dead", "silent"],
)
def test_a_queue_that_nobody_consumes(worker: Consumer) -> None:
    found = reason(replace(FACTS, workers=[worker]))
    assert found.code is Code.NO_CONSUMER
    name = " -n worker2@%h" if worker.is_live(NOW) else ""
    assert found.help == f"celery -A <app> worker -Q durable{name}"
    assert "durable, which no live worker consumes" in found.text


def test_a_worker_that_may_consume_anything_does() -> None:
    anything = replace(IDLE, queues=frozenset())
    assert reason(replace(FACTS, workers=[anything])).code is Code.DEAF


def test_a_version_that_no_worker_of_the_queue_knows() -> None:
    found = reason(replace(FACTS, version=2))
    assert found.code is Code.UNKNOWN
    assert found.text == "No live worker of the queue durable knows charge of order version 2"


def test_what_is_put_back_because_nobody_knows_it_is_not_delayed() -> None:
    put_back = replace(AT_CHARGE, begun=False, since=NOW, wake_at=NOW + PUT_BACK_FOR)
    facts = replace(standing(put_back), version=2)
    assert (reason(facts).code, reason(facts).since) == (Code.UNKNOWN, None)
    assert reason(replace(facts, version=1, status=Status.PENDING)).code is Code.DELAYED
    later = replace(put_back, wake_at=NOW + PUT_BACK_FOR + SECOND)
    pending = replace(standing(later), version=2, status=Status.PENDING)
    assert reason(pending).code is Code.DELAYED


def test_all_slots_are_busy() -> None:
    other = replace(IDLE, id=uuid4(), slots=1, busy=16)
    found = reason(replace(FACTS, workers=[replace(IDLE, busy=2), other]))
    assert found.code is Code.BUSY
    assert found.text.endswith("all 3 slots are busy")
    assert reason(replace(FACTS, workers=[IDLE, other])).code is Code.DEAF


def test_a_free_worker_that_takes_nothing_is_deaf() -> None:
    found = reason(FACTS)
    assert (found.code, found.since) == (Code.DEAF, LONG_AGO)
    assert found.text.endswith("in the queue durable, and w1@host takes nothing though it is free")
    fresh = replace(AT_CHARGE, since=NOW - DEAF_AFTER + SECOND)
    assert reason(standing(fresh)).code is Code.ON_ITS_WAY
    woken = replace(AT_CHARGE, wake_at=NOW - SECOND)
    assert reason(standing(woken)).code is Code.ON_ITS_WAY


def test_a_hint_that_was_sent_again_does_not_hide_that_nobody_takes_it() -> None:
    again = replace(AT_CHARGE, hinted_at=NOW - SECOND)
    found = reason(standing(again))
    assert (found.code, found.since) == (Code.DEAF, LONG_AGO)


def test_a_worker_that_takes_what_came_later_is_not_deaf() -> None:
    """Many are before it in the queue; a slot is free for a moment between two of them."""
    at_work = replace(IDLE, busy=1, took_at=NOW - SECOND)
    found = reason(replace(FACTS, workers=[at_work]))
    assert found.code is Code.BUSY
    assert found.text.endswith("for its turn; 1 of 2 slots are busy")
    long_at_work = replace(IDLE, busy=1, took_at=LONG_AGO - SECOND)
    assert reason(replace(FACTS, workers=[long_at_work])).code is Code.DEAF


def test_what_has_come_is_no_longer_waited_for() -> None:
    """Nobody has looked yet, and why not is told."""
    waiting = replace(AT_CHARGE, waiting_since=LONG_AGO, wake_at=LATER)
    come = standing(waiting, wait=ForSignal("paid"))
    told = reason(replace(come, signals={"paid": NOW - SECOND}, workers=[]))
    assert (told.code, told.since) == (Code.NO_CONSUMER, NOW - SECOND)
    assert reason(replace(come, signals={"payed": NOW})).code is Code.SIGNAL
    over = Diagnosis(CHILD, Status.COMPLETED, NOW, (Reason(Code.ENDED, "ended", LONG_AGO),))
    parent = replace(standing(wait=ForChild(CHILD)), children={CHILD: over})
    assert (reason(parent).code, reason(parent).since) == (Code.DEAF, LONG_AGO)


def test_a_worker_that_is_added_has_a_name_of_its_own() -> None:
    """Two nodes of one name get each other's remote control."""
    hosts = ("celery@host", "worker2@host")
    busy = [replace(IDLE, hostname=host, busy=2) for host in hosts]
    found = reason(replace(FACTS, workers=busy))
    assert found.help == "celery -A <app> worker -Q durable -n worker3@%h"


def test_what_a_person_reads() -> None:
    inner = Reason(Code.SLEEPING, "b sleeps", until=LATER)
    told = Reason(Code.CHILD, "a waits", LONG_AGO, help="do it", inner=(inner,))
    assert str(Diagnosis(RUN, Status.RUNNING, NOW, (told,))) == (
        "a waits (since 2026-03-01 11:00:00Z).\n-> do it\n  b sleeps (until 2026-03-01 12:05:00Z)."
    )


def paused(pause: Pause, reason: str | None = None) -> Facts:
    return replace(FACTS, pauses=[Paused(pause, reason, LONG_AGO)])


@pytest.mark.parametrize(
    ("pause", "text", "named"),
    [
        (Pause(run_id=RUN), "The run is paused", f"{RUN}"),
        (Pause(workflow="order"), "Workflow order is paused", "--workflow order"),
        (
            Pause(workflow="order", version=1),
            "Workflow order version 1 is paused",
            "--workflow order --version 1",
        ),
        (Pause(step="charge"), "Step charge is paused", "--step charge"),
        (
            Pause(run_id=RUN, step="charge"),
            "Step charge of the run is paused",
            f"{RUN} --step charge",
        ),
    ],
    ids=str,
)
def test_a_pause_names_what_lifts_it(pause: Pause, text: str, named: str) -> None:
    found = reason(paused(pause))
    assert (found.code, found.text, found.since) == (Code.PAUSED, text, LONG_AGO)
    assert found.help == f"celery -A <app> durable unpause {named}"
    assert reason(paused(pause, "incident")).text == f"{text}: incident"


@pytest.mark.parametrize(
    "pause",
    [
        Pause(run_id=CHILD),
        Pause(workflow="other"),
        Pause(workflow="order", version=2),
        Pause(step="x"),
    ],
    ids=str,
)
def test_a_pause_of_something_else_is_no_reason(pause: Pause) -> None:
    assert reason(paused(pause)).code is not Code.PAUSED


def test_what_is_executed_is_not_held_by_a_pause() -> None:
    held = replace(paused(Pause(run_id=RUN)), tokens=[replace(AT_CHARGE, claimed_by=WORKER)])
    assert reason(held).code is Code.EXECUTING


def test_a_wait_under_a_pause_has_both_reasons() -> None:
    facts = replace(paused(Pause(run_id=RUN)), tokens=standing(wait=ForSignal("go")).tokens)
    assert [one.code for one in explain(facts).reasons] == [Code.PAUSED, Code.SIGNAL]


def test_branches_of_a_paused_step_are_told_once() -> None:
    parent = replace(AT_CHARGE, token=replace(TOKEN, wait=ForBranches(2)))
    branches = [
        replace(AT_CHARGE, token=replace(TOKEN, id=uuid4(), unit=f"m#{n}", parent=TOKEN.id))
        for n in range(2)
    ]
    facts = replace(paused(Pause(step="charge")), tokens=[parent, *branches])
    assert [one.code for one in explain(facts).reasons] == [Code.PAUSED, Code.BRANCHES]


def test_tries_that_are_used_up_show_the_error_and_what_helps() -> None:
    waiting = replace(AT_CHARGE, waiting_since=LONG_AGO)
    found = reason(standing(waiting, wait=ForOperator(), failures=(DECLINED,)))
    assert (found.code, found.since) == (Code.EXHAUSTED, LONG_AGO)
    assert found.text == "charge has used up its tries, attempt 1, after Declined: no money"
    remedy = f"celery -A <app> durable retry-now {RUN} --unit charge"
    assert found.help.splitlines() == ["Mend the cause, then:", remedy]
