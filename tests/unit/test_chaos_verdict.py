"""The judge of the chaos run: each law that is broken in the evidence is found; nothing else is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import sentinel
from uuid import UUID

import pytest

from tests.chaos.accounts import Accounts, RunAccount, Unit
from tests.chaos.faults import IMMEDIATE, KINDS, OUTAGES, Strike, schedule
from tests.chaos.field import TTL
from tests.chaos.ledger import Execution
from tests.chaos.load import Cancelled, Started
from tests.chaos.verdict import Evidence, breaches, repeats, takeovers

MODEL, RUN = UUID(int=1), UUID(int=2)
PID, OTHER = 100, 200


def unit(name: str, outcome: str = "completed", attempt: int = 1) -> Unit:
    return Unit(name, outcome, attempt, '{"did": 1}', None)


def account(run_id: UUID, *units: Unit, **facts: Any) -> RunAccount:
    told = {"status": "completed", "has_ended": True, "error": (None, None), **facts}
    return RunAccount(id=run_id, root=run_id, workflow="order", units=[*units], **told)


def call(run_id: UUID, name: str, began: float, *, pid: int = PID, ended: bool = True) -> Execution:
    return Execution(run_id, name, 1, pid, began, began + 0.5 if ended else None)


def evidence(*units: Unit, **facts: Any) -> Evidence:
    """Of one run whose record is `units`, beside an undisturbed one of the same input."""
    mine = account(RUN, *(units or UNITS), **facts)
    runs = {MODEL: account(MODEL, *UNITS), RUN: mine}
    return Evidence(
        started={run_id: Started(sentinel.run, "order", 0) for run_id in runs},
        cancelled={},
        undisturbed={("order", 0): MODEL},
        accounts=Accounts(
            runs,
            {run_id: [run] for run_id, run in runs.items()},
            {(run_id, "book"): 1 for run_id in runs},
            {"tokens": 0},
        ),
        executions=[
            call(run_id, one.unit, at) for run_id in runs for at, one in enumerate(UNITS, start=1)
        ],
        strikes=[],
    )


UNITS = (unit("reserve"), unit("book"))


def found(judged: Evidence) -> list[str]:
    return [breach.what for breach in breaches(judged)]


def test_a_run_like_the_undisturbed_one_breaks_no_law() -> None:
    assert found(evidence()) == []


BROKEN: dict[str, Callable[[], Evidence]] = {
    "has not ended": lambda: evidence(has_ended=False, status="running"),
    "did not go like an undisturbed run": lambda: evidence(
        unit("reserve"), unit("book", attempt=2)
    ),
    "is there and was not started": lambda: replace(evidence(), started={}),
    "executed and not recorded": lambda: evidence(unit("reserve")),
    "was never executed": lambda: replace(
        evidence(), executions=[call(RUN, "reserve", 1, ended=False)]
    ),
    "book has 2 effects": lambda: with_effects(2),
    "book has 0 effects": lambda: with_effects(0),
    "3 tokens left": lambda: with_left(3),
    "undone in the order": lambda: evidence(
        *UNITS, unit("reserve#compensate"), unit("book#compensate")
    ),
    "began again without a cause": lambda: repeated([]),
}


def with_effects(number: int) -> Evidence:
    judged = evidence()
    effects = {**judged.accounts.effects, (RUN, "book"): number}
    return replace(judged, accounts=replace(judged.accounts, effects=effects))


def with_left(number: int) -> Evidence:
    judged = evidence()
    return replace(judged, accounts=replace(judged.accounts, left={"tokens": number}))


@pytest.mark.parametrize("what", BROKEN)
def test_a_law_that_is_broken_is_found(what: str) -> None:
    assert any(what in told for told in found(BROKEN[what]()))


def test_a_run_that_is_not_there_is_missed() -> None:
    judged = evidence()
    absent = UUID(int=3)
    started = {**judged.started, absent: judged.started[RUN]}
    assert found(replace(judged, started=started)) == ["was started and is not there"]


@pytest.mark.parametrize(("compensate", "undone"), [(True, False), (False, True)])
def test_a_cancelled_run_is_undone_if_and_only_if_that_was_asked_for(
    *, compensate: bool, undone: bool
) -> None:
    reserved = replace(unit("reserve"), is_undoable=True)
    undo = [unit("reserve#compensate")] if undone else []
    judged = evidence(reserved, unit("book"), *undo, status="cancelled")
    judged = replace(judged, cancelled={RUN: Cancelled(compensate)})
    assert any(told.startswith("cancelled; undone") for told in found(judged))


def repeated(strikes: Sequence[Strike], name: str = "reserve") -> Evidence:
    """A process begins a unit at 10 s and never ends it; another begins it again at 12 s."""
    judged = evidence()
    others = [one for one in judged.executions if (one.run_id, one.unit) != (RUN, name)]
    both = [call(RUN, name, 10, ended=False), call(RUN, name, 12, pid=OTHER)]
    return replace(
        judged, executions=sorted([*others, *both], key=lambda one: one.began), strikes=strikes
    )


KILLED = Strike("kill child", 11, 11, killed=frozenset({PID}))
STOPPED = Strike("stop child past TTL", 5, 14, stopped=frozenset({PID}))
EXPLAINING = (
    KILLED,
    STOPPED,
    replace(STOPPED, stopped=frozenset({OTHER})),
    # It had claimed before, and came to the handler after.
    replace(KILLED, began=9.5, ended=9.5),
    replace(STOPPED, began=0.5, ended=9.5),
    Strike(IMMEDIATE, 11, 11.5),
)
NOT_EXPLAINING = (
    replace(KILLED, began=8.5, ended=8.5),
    replace(STOPPED, began=0, ended=8.5),
    replace(KILLED, killed=frozenset({OTHER})),
    replace(KILLED, began=13, ended=13),
    replace(STOPPED, began=10.5, ended=11.5),
    Strike("flush broker", 11, 11.5),
    Strike("kill relay", 11, 11.5, killed=frozenset({300})),
    Strike("cut all connections", 11, 11),
    Strike("restart Postgres", 11, 11.5),
)


@pytest.mark.parametrize("strike", EXPLAINING)
def test_a_fault_of_its_process_or_of_postgres_explains_a_second_beginning(strike: Strike) -> None:
    judged = repeated([strike])
    assert found(judged) == []
    assert [one.cause for one in repeats(judged)] == [strike]


CRASHED = Strike(IMMEDIATE, 20, 21)


def done_again(*more: Execution, ended: float = 19.5, name: str = "reserve") -> Evidence:
    """A unit that ended some time before Postgres crashes begins again after it."""
    judged = repeated([CRASHED], name)
    both = [Execution(RUN, name, 1, PID, 10, ended), call(RUN, name, 25, pid=OTHER)]
    others = [one for one in judged.executions if (one.run_id, one.unit) != (RUN, name)]
    executions = sorted([*others, *both, *more], key=lambda one: one.began)
    return replace(judged, executions=executions)


def test_a_crash_of_postgres_explains_what_had_only_just_ended() -> None:
    assert found(done_again()) == []


RECORDED = {
    "it had ended long before": done_again(ended=15),
    "its run had gone on": done_again(call(RUN, "book", 19.6)),
    "its next try had begun": done_again(replace(call(RUN, "reserve", 19.6), attempt=2)),
    "something else had been undone after it": done_again(
        call(RUN, "book#compensate", 19.7), name="reserve#compensate"
    ),
}


@pytest.mark.parametrize("why", RECORDED)
def test_what_was_recorded_is_not_done_again_for_a_crash_of_postgres(why: str) -> None:
    assert any("without a cause" in told for told in found(RECORDED[why]))


def test_what_was_recorded_is_not_done_again_for_a_death_either() -> None:
    judged = done_again(ended=11)
    killed = replace(KILLED, began=20, ended=20)
    assert any("without a cause" in told for told in found(replace(judged, strikes=[killed])))


@pytest.mark.parametrize(
    "delay",
    [
        Strike("restart Postgres", 14, 19),
        Strike("cut all connections", 17, 17.5),
        Strike("stop child", 12, 18, stopped=frozenset({PID})),
    ],
)
def test_what_could_not_be_recorded_for_long_may_be_lost(delay: Strike) -> None:
    """Of an end at 15 s, by a crash at 20 s."""
    judged = done_again(ended=15)
    assert found(replace(judged, strikes=[delay, CRASHED])) == []


def test_items_of_one_node_do_not_wait_for_each_other() -> None:
    judged = done_again(call(RUN, "lines#2", 19.7), name="lines#1")
    assert not any("without a cause" in told for told in found(judged))


def test_what_was_seen_recorded_must_be_there() -> None:
    """Also where the same unit was recorded once more: the row has another number."""
    judged = evidence()
    judged = replace(judged, accounts=replace(judged.accounts, recorded=frozenset({1, 3})))
    assert found(replace(judged, seen={1: (RUN, "reserve"), 3: (RUN, "book")})) == []
    lost = replace(judged, seen={1: (RUN, "reserve"), 2: (RUN, "book")})
    assert found(lost) == ["book was seen recorded and is lost"]


@pytest.mark.parametrize(("binds", "said"), [(True, 1), (False, 0), (None, 0)])
def test_a_cancel_that_was_acknowledged_must_hold(*, binds: bool | None, said: int) -> None:
    judged = replace(evidence(), cancelled={RUN: Cancelled(compensate=False, binds=binds)})
    assert found(judged) == ["was cancelled in time and is completed"] * said


def died(*seconds: float, also: Sequence[Strike] = ()) -> Evidence:
    """Processes that were killed a minute apart, and known to be dead so many seconds later."""
    strikes = [
        Strike("kill child", 60 * n, 60 * n, killed=frozenset({n})) for n in range(len(seconds))
    ]
    deaths = [(n, 60 * n + late) for n, late in enumerate(seconds)]
    return replace(evidence(), strikes=[*strikes, *also], deaths=deaths)


def test_deaths_are_noticed_by_their_locks_and_not_by_the_ttl() -> None:
    soon, late, never = TTL * 0.2, TTL * 0.7, TTL * 1.6
    assert found(died(soon, soon, soon, late)) == []
    assert found(died(soon, soon, late, late))[0].startswith("2 of 4 deaths were noticed late")
    assert found(died(late))[0].startswith("1 of 1 deaths were noticed late")
    assert any("a death was noticed after" in told for told in found(died(*[soon] * 9, never)))
    assert found(died(never, also=[Strike("cut locks", 1, 1)])) == []
    # The relay is away when the one worker is killed that looks as well.
    assert found(died(late, also=[Strike("stop relay", -3, 1)])) == []
    assert found(died(late, also=[Strike("stop worker", -3, 1)])) != []


@pytest.mark.parametrize("strike", NOT_EXPLAINING)
def test_no_other_fault_explains_a_second_beginning(strike: Strike) -> None:
    assert any("without a cause" in told for told in found(repeated([strike])))


def test_a_lost_connection_explains_that_a_transactional_step_begins_again() -> None:
    assert found(repeated([Strike("cut all connections", 11, 11)], "book")) == []


def test_a_takeover_lasts_from_the_death_to_the_next_beginning() -> None:
    assert takeovers(repeated([KILLED])) == [1]


def test_a_takeover_is_not_alone_when_the_broker_is_away() -> None:
    judged = repeated([KILLED, Strike("restart broker", 8, 9)])
    assert takeovers(judged) == [1]
    assert takeovers(judged, alone=True) == []
    assert takeovers(repeated([KILLED]), alone=True) == [1]


def test_a_seed_draws_the_same_schedule_again_and_each_kind_comes() -> None:
    first, again, other = schedule(7, 600), schedule(7, 600), schedule(8, 600)
    assert first == again != other
    assert {fault.kind for fault in first} == set(KINDS)
    assert set(KINDS) >= set(OUTAGES)
    assert all(0 < fault.at < 600 for fault in first)
