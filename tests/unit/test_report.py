"""What one message has done, as a line of text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from celery.utils.saferepr import saferepr

from celery_durable.core.claim import Claim
from celery_durable.core.decision import Branch, Decision, End, Fork, Leave, Move, Park, RunChange
from celery_durable.core.event import Event, Failed, Succeeded
from celery_durable.core.nodes import Routing
from celery_durable.core.plan import Plan
from celery_durable.core.retry import UNLIMITED, RetryPolicy
from celery_durable.core.status import Status
from celery_durable.core.token import ForChild, ForSignal, ForTimer, Token, Wait
from celery_durable.engine.report import MOST_FAILURES, Report, seconds
from celery_durable.store.bundle.committing import Plain
from tests.unit import values
from tests.unit.values import BEGAN, DECLINED, NOW, RUN_ID, at, claim, plan

ORDER = plan("a", "b", "c")
RUN = f"order {RUN_ID}"


def succeeded() -> Succeeded:
    return Succeeded("1", BEGAN)


def failed(**how: Any) -> Failed:
    return Failed(DECLINED, BEGAN, **how)


def decide(of: Plan, token: Token, event: Event) -> Decision:
    return values.decide(of, token, event, NOW)


def note(report: Report, token: Token, event: Event, of: Plan = ORDER) -> Claim:
    """Note what is decided on the event; the claim of its token."""
    held = claim(token)
    report.committed(of, held, decide(of, token, event), event)
    return held


def report_of(*done: tuple[str, Event]) -> str:
    """The line of a message that did this in one run."""
    report = Report()
    for unit, event in done:
        report.took(note(report, at(unit), event))
    return repr(report)


def parked(wait: Wait, timeout: float | None = None) -> Decision:
    return Decision(at("a"), Park(replace(at("a"), wait=wait), Routing(), timeout))


def test_it_names_the_units_and_how_the_run_ended() -> None:
    assert report_of(("a", succeeded()), ("b", succeeded())) == f"{RUN}: a, b"
    everything = [(unit, succeeded()) for unit in "abc"]
    assert report_of(*everything) == f"{RUN}: a, b, c; completed"


def test_it_says_which_unit_has_failed_at_which_attempt_and_when_the_next_is() -> None:
    assert report_of(("a", succeeded()), ("b", failed())) == (
        f"{RUN}: a; b failed (attempt 1 of 3), next in 10 s"
    )
    given_up = failed(may_retry=False)
    assert report_of(("b", given_up)) == f"{RUN}: b failed (attempt 1 of 3); failed"


def test_a_unit_that_is_tried_once_has_no_number() -> None:
    tried_once = plan("a", returns=True)
    report = Report()
    held = claim(at("#returns"))
    report.took(held)
    note(report, at("#returns"), failed(), tried_once)
    assert repr(report) == f"{RUN}: #returns failed; failed"


def test_a_unit_that_is_tried_without_a_limit_has_the_number_of_its_attempt_alone() -> None:
    endless = plan(values.node("a", retry=RetryPolicy(UNLIMITED, initial=10, jitter=False)))
    report = Report()
    report.took(note(report, at("a", attempt=1), failed(), endless))
    assert repr(report) == f"{RUN}: a failed (attempt 1), next in 10 s"


def test_it_names_ten_units_and_counts_the_others() -> None:
    done = [("a", succeeded())] * 100
    names = ", ".join(["a"] * 10)
    assert report_of(*done) == f"{RUN}: {names} and 90 more"


def test_it_fits_into_what_celery_logs_however_long_the_names_are() -> None:
    long = "step" * 50
    report = Report()
    held = claim(at("a"))
    report.took(held)
    for number in range(50):
        done = Decision(at(f"{long}{number}"), Leave())
        report.committed(
            ORDER, held, replace(done, records=records(f"{long}{number}")), succeeded()
        )
    assert repr(report).endswith(" and 48 more")
    assert saferepr(report, 1024) == repr(report)


def records(unit: str) -> Any:
    (record,) = decide(ORDER, at("a"), succeeded()).records
    return (replace(record, unit=unit),)


def test_a_failure_is_named_after_however_many_units() -> None:
    done: list[tuple[str, Event]] = [("a", succeeded())] * 100
    line = report_of(*done, ("b", failed()))
    assert line.endswith(" and 90 more; b failed (attempt 1 of 3), next in 10 s")


def test_of_many_failures_it_names_the_first() -> None:
    line = report_of(*[("b", failed())] * 5)
    assert line.count("b failed") == MOST_FAILURES
    assert line.endswith("; 2 more failed")


def test_it_says_what_the_run_waits_for() -> None:
    child = UUID(int=7)
    forked = Decision(at("a"), Fork(at("a"), (Branch("a#0", 0, Routing()),) * 3, 3))
    said = {
        "waits for the signal 'go'": parked(ForSignal("go")),
        "sleeps for 90.5 s": parked(ForTimer(), 90.5),
        f"waits for the child run {child}": parked(ForChild(child)),
        "waits for 3 branches": forked,
    }
    for text, decision in said.items():
        report = Report()
        held = claim(at("a"))
        report.took(held)
        report.committed(ORDER, held, decision, succeeded())
        assert repr(report) == f"{RUN}: {text}"
        report.committed(ORDER, held, Decision(at("a"), Move(at("b"), Routing())), succeeded())
        assert text not in repr(report), "it has gone on"


def test_a_message_that_did_nothing_says_so() -> None:
    report = Report()
    assert repr(report) == "nothing to do"
    report.took(None)
    assert repr(report) == "nothing to do"
    report.took(claim(at("a")))
    assert repr(report) == f"{RUN}: nothing done"


def test_a_unit_whose_result_was_dropped_is_named_as_such() -> None:
    report = Report()
    report.took(claim(at("a")))
    report.dropped("a")
    assert repr(report) == f"{RUN}: a dropped"


def of_run(number: int, workflow: str = "order") -> Claim:
    held = claim(at("a"))
    return replace(held, run=replace(held.run, id=UUID(int=number), workflow=workflow))


def test_a_message_of_several_runs_counts_and_names_those_that_fail() -> None:
    claims = [of_run(number) for number in range(16)]
    report = Report()
    report.took(*claims)
    moved = [Plain(held, decide(ORDER, at("a"), succeeded()), None) for held in claims]
    ended = [Plain(held, decide(ORDER, at("c"), succeeded()), None) for held in claims[:3]]
    for plain in (moved, moved, moved[:13], ended):
        report.committed_together(plain)
    assert repr(report) == "16 runs of order: 48 units; 3 completed"

    event = failed()
    report.committed(ORDER, claims[15], decide(ORDER, at("a"), event), event)
    assert repr(report) == (
        "16 runs of order: 48 units; 3 completed;"
        f" order {UUID(int=15)}: a failed (attempt 1 of 3), next in 10 s"
    )


def test_branches_of_one_run_are_named() -> None:
    held = claim(at("a"))
    report = Report()
    report.took(held, held)
    left = Decision(at("a"), Leave(), records("m#0"))
    report.committed_together([Plain(held, left, None)] * 12)
    assert repr(report) == f"{RUN}: {', '.join(['m#0'] * 10)} and 2 more"


def test_runs_of_several_workflows_are_counted_together() -> None:
    report = Report()
    report.took(of_run(1), of_run(2, "refund"))
    report.committed_together([Plain(of_run(1), decide(ORDER, at("a"), succeeded()), None)])
    assert repr(report) == "2 runs of order, refund: 1 unit"


def test_a_rollback_is_named_unit_by_unit() -> None:
    report = Report()
    held = claim(at("a"))
    report.took(held)
    ended = Decision(at("a"), End(), records("a#compensate"), RunChange(Status.CANCELLED))
    report.committed(ORDER, held, ended, succeeded())
    assert repr(report) == f"{RUN}: a#compensate; cancelled"


def test_seconds_are_said_as_a_person_says_them() -> None:
    said = [seconds(number) for number in (4.0, 0.25, 86_400.0 * 365, 0.0)]
    assert said == ["4 s", "0.2 s", "31536000 s", "0 s"]
