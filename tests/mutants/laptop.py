"""Mutants of `durable dev`, and of the form that starts a run."""

from tests.mutants.mutant import Mutant

PROCESS = "celery_durable.dev.process"
SUPERVISOR = "celery_durable.dev.supervisor"

WORKFLOWS = "tests/web/test_workflows.py"


def supervised(test: str) -> str:
    """The node id of a test of the supervisor."""
    return f"tests/dev/test_supervisor.py::{test}"


LAPTOP = (
    Mutant(
        name="dev-group",
        promise="P12",
        takes_out="ending all that a part has started when the supervisor is killed",
        at=f"{PROCESS}:Child.__init__",
        old="start_new_session=True",
        new="start_new_session=False",
        tests=(supervised("test_nothing_outlives_a_supervisor_that_is_killed"),),
    ),
    Mutant(
        name="dev-pauses",
        promise="P12",
        takes_out="waiting longer each time before a part is started again",
        at=f"{SUPERVISOR}:Pauses.after",
        old="min(2 * pause, LONGEST_PAUSE)",
        new="pause",
        tests=(supervised("test_pauses_grow_up_to_a_bound_and_a_steady_part_starts_over"),),
    ),
    Mutant(
        name="dev-nohup",
        promise="P12",
        takes_out="leaving a signal ignored that was",
        at=f"{SUPERVISOR}:Ending.listen",
        old="if signal.getsignal(number) is not signal.SIG_IGN:",
        new="if True:",
        tests=(supervised("test_what_ignores_the_hang_up_goes_on"),),
    ),
    Mutant(
        name="start-form-key",
        promise="P12",
        takes_out="saying that a run has the key already",
        at="celery_durable.web.workflows:_on_conflict",
        old='"existing" if options["key"] is None else "raise"',
        new='"existing"',
        tests=(f"{WORKFLOWS}::test_a_key_that_a_run_has_starts_nothing_and_leads_to_that_run",),
    ),
)
