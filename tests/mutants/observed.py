"""The mutants of what watches units, and is around them."""

from tests.mutants.mutant import Mutant

AROUND = "celery_durable.workflow.around"
OBSERVER = "celery_durable.contrib.opentelemetry.observer:SpanObserver"
SPANS = "celery_durable.contrib.opentelemetry.spans"
SENTRY = "celery_durable.contrib.sentry"
LOOP = "celery_durable.engine.loop:Engine"

TESTS = "tests/integration"
TRACED = f"{TESTS}/test_spans.py"
REPORTED = f"{TESTS}/test_sentry.py"
SURROUNDED = f"{TESTS}/test_around.py"

OBSERVED = (
    Mutant(
        name="a-child-is-in-its-parents-trace",
        promise="P12",
        takes_out="writing the trace of the unit that starts a child",
        at="celery_durable.engine.children:RunFactory._ready",
        old="trace=trace_here(options.trace)",
        new="trace=None",
        tests=(
            f"{TRACED}::test_a_child_run_is_in_the_same_trace_below_the_unit_that_starts_it",
            f"{TRACED}::test_every_unit_is_a_span_below_the_start_in_the_trace_of_the_caller",
        ),
    ),
    Mutant(
        name="a-trace-is-handed-on-unseen",
        promise="P12",
        takes_out="handing a run's trace on to its children where nobody observes",
        at=f"{LOOP}._new_child",
        old="trace=run.trace",
        new="trace=None",
        tests=(
            f"{TRACED}::test_a_child_keeps_the_trace_where_the_worker_that_starts_it_makes_no_spans",
        ),
    ),
    Mutant(
        name="a-signal-has-its-senders-trace",
        promise="P12",
        takes_out="storing the trace of whoever sends a signal",
        at="celery_durable.client:Client.resume",
        old="trace=trace_here()",
        new="trace=None",
        tests=(f"{TRACED}::test_a_signal_is_a_span_linked_to_its_sender_and_the_wait_is_none",),
    ),
    Mutant(
        name="a-failed-unit-is-an-error",
        promise="P12",
        takes_out="the status of the span of a failed unit",
        at=f"{OBSERVER}.end_unit",
        old="span.set_status(StatusCode.ERROR, record.message if self._with_messages else None)",
        new="pass",
        tests=(f"{TRACED}::test_each_attempt_is_a_span_that_says_which_it_is_and_how_it_ended",),
    ),
    Mutant(
        name="messages-of-exceptions-are-no-attributes",
        promise="P12",
        takes_out="leaving out what an exception says",
        at=f"{SPANS}:of_exception",
        old="if with_message:",
        new="if True:",
        tests=(f"{TRACED}::test_no_span_has_anything_of_a_payload",),
    ),
    Mutant(
        name="a-transactional-span-has-its-commit",
        promise="P12",
        takes_out="telling observers that a step's commit has failed",
        at="celery_durable.engine.transactional:Transactional.execute",
        old="ended(became.event, became.exception)",
        new="ended(execution.event, None)",
        tests=(f"{TRACED}::test_a_transactional_step_that_fails_at_its_commit_is_a_failed_span",),
    ),
    Mutant(
        name="nobody-is-told-where-nobody-observes",
        promise="P11",
        takes_out="asking whether anybody observes",
        at=f"{LOOP}._called",
        old="if not observers:",
        new="if False:",
        tests=(f"{TRACED}::test_a_unit_calls_nothing_of_it_while_nobody_observes",),
    ),
    Mutant(
        name="observers-cannot-fail-a-run",
        promise="P12",
        takes_out="going on after an observer has failed",
        at="celery_durable.workflow.observing:_told",
        old="return None",
        new="raise",
        tests=(f"{TRACED}::test_what_an_observer_raises_is_logged_and_the_run_goes_on",),
    ),
    Mutant(
        name="retries-are-not-reported",
        promise="P12",
        takes_out="telling a final failure from one that is tried again",
        at=f"{SENTRY}:SentryObserver.failed",
        old="failure.fate is Fate.RETRIED or not is_active()",
        new="not is_active()",
        tests=(f"{REPORTED}::test_a_failure_that_is_tried_again_is_no_event",),
    ),
    Mutant(
        name="celerys-own-reports-of-steps",
        promise="P12",
        takes_out="dropping what Celery's integration reports at each try of a step",
        at=f"{SENTRY}:_Unit.process",
        old='if (values[-1].get("mechanism") or {}).get("type") == "celery":',
        new="if False:",
        tests=(f"{REPORTED}::test_a_task_that_is_a_step_is_reported_once_and_not_at_each_try",),
    ),
    Mutant(
        name="reported-by-its-handler",
        promise="P12",
        takes_out="remembering what a handler has reported",
        at=f"{SENTRY}:_Unit.process",
        old="self.reported.append(raised[1])",
        new="pass",
        tests=(f"{REPORTED}::test_what_a_handler_reports_by_itself_is_not_reported_again",),
    ),
    Mutant(
        name="reports-have-the-scope-of-their-unit",
        promise="P12",
        takes_out="reporting from the scope of the unit that has failed",
        at=f"{SENTRY}:SentryObserver.end_unit",
        old="self._here.failed = unit if has_failed else None",
        new="pass",
        tests=(
            f"{REPORTED}::test_the_event_has_what_its_handler_has_left_and_nothing_of_other_runs",
        ),
    ),
    Mutant(
        name="around-makes-no-success",
        promise="P12",
        takes_out="raising again what a context manager has swallowed",
        at=f"{AROUND}:inside",
        old="if swallowed is not None:",
        new="if False:",
        tests=(f"{SURROUNDED}::test_it_cannot_make_a_success_of_a_failure",),
    ),
    Mutant(
        name="around-is-interrupted-as-handlers-are",
        promise="P12",
        takes_out="letting a time limit strike in a context manager",
        at=f"{AROUND}:_OfTheUser._call",
        old="partial(interrupts.in_handler, function)",
        new="function",
        tests=("tests/unit/test_around.py::test_a_time_limit_strikes_after_the_handler",),
    ),
    Mutant(
        name="around-loops-of-child-runs",
        promise="P12",
        takes_out="being around the functions of a loop over child runs",
        at="celery_durable.workflow.execute:call_after_iteration",
        old="context=context",
        new="context=None",
        tests=(
            f"{SURROUNDED}::test_so_are_branches_items_iterations_and_the_functions_between_steps",
        ),
    ),
)
