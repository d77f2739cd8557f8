"""Mutants of what operators do: pausing, trying again, recording by hand."""

from tests.mutants.mutant import Mutant

STEERING_STORE = "celery_durable.store.steering"
INHERITING = "celery_durable.store.inheriting"
PAUSES = "celery_durable.store.pauses"


def pauses(test: str) -> str:
    """The node id of a test of pausing."""
    return f"tests/integration/test_pause.py::{test}"


def steers(test: str) -> str:
    """The node id of a test of moving a unit on."""
    return f"tests/integration/test_steering.py::{test}"


def retries(test: str) -> str:
    """The node id of a test of trying a run again."""
    return f"tests/integration/test_retry.py::{test}"


STEERING = (
    Mutant(
        name="a-pause-keeps-claims-away",
        promise="P2",
        takes_out="leaving a paused token unclaimed",
        at="celery_durable.store.tokens:IS_NOT_HELD",
        old="sa.or_(_is_flagged, sa.not_(is_paused(t.token.c)))",
        new="sa.true()",
        tests=(pauses("test_a_message_for_a_paused_run_comes_to_nothing"),),
    ),
    Mutant(
        name="a-pause-keeps-bundles-away",
        promise="P2",
        takes_out="leaving a paused token out of a bundle",
        at="celery_durable.store.bundle.claiming:_may_be_bundled",
        old="sa.not_(is_paused(_row)),",
        new="",
        tests=(pauses("test_a_bundle_leaves_out_what_is_paused_and_goes_on_with_the_others"),),
    ),
    Mutant(
        name="a-pause-is-seen-by-a-commit",
        promise="P2",
        takes_out="telling the worker that goes straight on of a pause",
        at="celery_durable.store.commit.statement:_answers",
        old="[*answers, paused] if goes_straight_on else answers",
        new="answers",
        tests=(pauses("test_what_is_executed_ends_and_is_recorded"),),
    ),
    Mutant(
        name="a-pause-is-seen-by-a-bundle",
        promise="P2",
        takes_out="telling a bundle of a pause",
        at="celery_durable.store.bundle.committing:_moving",
        old='() if releases else (IS_ANYTHING_PAUSED.label("is_anything_paused"),)',
        new="()",
        tests=(pauses("test_a_run_that_is_paused_in_a_bundle_stops_after_its_unit"),),
    ),
    Mutant(
        name="a-pause-releases-what-has-not-begun",
        promise="P2",
        takes_out="releasing the claim of a unit that is paused",
        at="celery_durable.core.admit:_released_for",
        old="if claim.is_paused and claim.token.flags is Flags.NONE:",
        new="if False:",
        tests=(pauses("test_what_is_executed_ends_and_is_recorded"),),
    ),
    Mutant(
        name="a-cancel-ends-a-pause",
        promise="P2",
        takes_out="lifting the pauses of runs that are cancelled",
        at="celery_durable.background.cancelling:_Cancel.apply",
        old="pauses.lift_of_runs(connection, [run.id for run in tree])",
        new="pass",
        tests=(
            pauses("test_a_cancel_ends_a_paused_run"),
            pauses("test_a_cancel_of_a_tree_ends_a_paused_child"),
        ),
    ),
    Mutant(
        name="unpausing-wakes",
        promise="P2",
        takes_out="the hints for what was paused",
        at="celery_durable.steering:Steering.unpause",
        old="self.wake(what, None if what.run_id is None else [what.run_id])",
        new="pass",
        tests=(pauses("test_a_paused_run_begins_nothing_until_it_is_unpaused"),),
    ),
    Mutant(
        name="used-up-tries-pause",
        promise="P2",
        takes_out="parking a unit that has used up its tries",
        at="celery_durable.core.waits:wait_for_operator",
        old='.retry.on_exhausted != "pause"',
        new='.retry.on_exhausted != ""',
        tests=(steers("test_a_unit_that_has_used_up_its_tries_waits_with_its_error"),),
    ),
    Mutant(
        name="tries-now-only-what-nobody-executes",
        promise="P4",
        takes_out="leaving a claimed unit alone that is tried now or recorded by hand",
        at=f"{STEERING_STORE}:_is_untouched",
        old="_token.claimed_by.is_(None),",
        new="",
        tests=(steers("test_a_unit_that_is_executed_is_left_alone"),),
    ),
    Mutant(
        name="one-operator-records",
        promise="P3",
        takes_out="refusing to record what another has recorded",
        at=f"{STEERING_STORE}:_is_untouched",
        old='_token.flags == sa.literal_column("0"),',
        new="",
        tests=(steers("test_of_two_operators_at_once_one_is_refused"),),
    ),
    Mutant(
        name="a-record-counts-in-a-cancel",
        promise="P8",
        takes_out="compensating what was recorded by hand before the cancel",
        at="celery_durable.core.admit:_is_to_be_checked",
        old="Flags.SKIP in token.flags and not token.only_ends",
        new="False",
        tests=(
            steers("test_what_was_done_by_hand_is_undone_by_a_cancel_that_comes_before_the_record"),
        ),
    ),
    Mutant(
        name="one-retry-at-a-time",
        promise="P3",
        takes_out="refusing to try a run again that was tried again before",
        at="celery_durable.engine.again:_begin_with",
        old="if run.retried_as is not None:",
        new="if False:",
        tests=(retries("test_of_two_operators_at_once_one_starts_the_run"),),
    ),
    Mutant(
        name="compensated-is-not-inherited",
        promise="P8",
        takes_out="leaving out what was compensated",
        at=f"{INHERITING}:_is_undone",
        old="_undo.c.outcome == sql.word(Outcome.COMPLETED), _part",
        new="sa.false(), _part",
        tests=(retries("test_what_was_compensated_is_executed_again"),),
    ),
    Mutant(
        name="inherited-is-undone",
        promise="P8",
        takes_out="undoing what a run has inherited",
        at=f"{INHERITING}:_copied",
        old='"undoable", ',
        new="",
        tests=(retries("test_what_is_inherited_is_undone_when_the_new_run_fails"),),
    ),
    Mutant(
        name="what-stands-is-not-repeated",
        promise="P8",
        takes_out="refusing to repeat what could not be compensated",
        at="celery_durable.engine.again:_refuse_to_repeat",
        old="if not_undone is not None:",
        new="if False:",
        tests=(retries("test_what_could_not_be_undone_is_not_done_again_unasked"),),
    ),
    Mutant(
        name="compensated-once",
        promise="P8",
        takes_out="leaving out what has been compensated when compensations are tried again",
        at="celery_durable.store.journal:_UNDO",
        old='_undone.c.unit == t.journal.c.unit + sql.word(f"{SEPARATOR}{COMPENSATE}"),',
        new="sa.false(),",
        tests=(retries("test_failed_compensations_are_tried_again_and_no_others"),),
    ),
)
