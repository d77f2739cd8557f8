"""Mutants of what is done to many runs at once."""

from tests.mutants.mutant import Mutant

ACTIONS = "celery_durable.bulk.actions"
STANDING = "celery_durable.store.read.matching:STANDING"
CANCELLING = "celery_durable.background.cancelling"


def acts(test: str) -> str:
    """The node id of a test of an action over a filter."""
    return f"tests/integration/test_bulk.py::{test}"


def cancels(test: str) -> str:
    """The node id of a test of a cancel of many runs."""
    return f"tests/integration/test_bulk_cancel.py::{test}"


def says(test: str) -> str:
    """The node id of a test of the command."""
    return f"tests/integration/test_cli_bulk.py::{test}"


def looks_up(page: str) -> str:
    """The node id of a test of a page where Postgres knows of no rows."""
    test = "test_a_page_is_looked_up_whatever_the_statistics_say"
    return f"tests/integration/test_bulk_plans.py::{test}[{page}]"


BULK = (
    Mutant(
        name="many-cancels-tell-parents",
        promise="P2",
        takes_out="the hints for parents of children that are cancelled together",
        at="celery_durable.store.cancelling.announcing:_ANNOUNCE",
        old="_found.c.depth == NONE",
        new="sa.false()",
        tests=(
            cancels("test_of_children_alone_each_parent_is_told"),
            cancels("test_grandchildren_that_match_with_their_grandparents_tell_the_run_between"),
        ),
    ),
    Mutant(
        name="many-cancels-add-up",
        promise="P8",
        takes_out="compensating where another cancel of the run has asked for it",
        at=f"{CANCELLING}:apply_commands_of",
        old="flags = reduce(or_, (one.flags for one in commands))",
        new="flags = commands[-1].flags",
        tests=(cancels("test_what_another_has_asked_for_counts_too"),),
    ),
    Mutant(
        name="a-locked-token-holds-up-one-cancel",
        promise="P2",
        takes_out="cancelling each alone, where a token of one stays locked",
        at=f"{ACTIONS}:Cancel.together",
        old="for run_id in asked:",
        new="for run_id in ():",
        tests=(cancels("test_a_locked_token_keeps_no_other_run"),),
    ),
    Mutant(
        name="a-cancel-of-many-stays-in-inboxes",
        promise="P2",
        takes_out="leaving the commands to recovery where they are not applied",
        at=f"{CANCELLING}:apply_commands_of",
        old="_Cancel(database, tops, flags, reason, until, bounds).apply(ids)",
        new="inbox.remove(connection, ids);"
        " _Cancel(database, tops, flags, reason, until, bounds).apply(ids)",
        tests=(cancels("test_a_locked_token_keeps_no_other_run"),),
    ),
    Mutant(
        name="asked-once",
        promise="P12",
        takes_out="leaving alone what was asked to end already",
        at=STANDING,
        old='"to be cancelled": (_is_unfinished, IS_TO_BE_ASKED),',
        new='"to be cancelled": (_is_unfinished,),',
        tests=(acts("test_a_cancel_of_many_compensates"),),
    ),
    Mutant(
        name="the-last-try-is-tried-again",
        promise="P3",
        takes_out="leaving alone what was tried again before",
        at=STANDING,
        old="t.run.c.retried_as.is_(None)",
        new="sa.true()",
        tests=(acts("test_of_a_run_that_was_tried_again_the_last_try_is"),),
    ),
    Mutant(
        name="children-are-not-tried-again-beside-parents",
        promise="P3",
        takes_out="leaving children to the retry of their parents",
        at=STANDING,
        old='"nobody\'s child": (IS_TOP,),',
        new='"nobody\'s child": (),',
        tests=(acts("test_a_child_is_left_to_the_retry_of_its_parent"),),
    ),
    Mutant(
        name="only-failed-runs-are-tried-again",
        promise="P12",
        takes_out="leaving cancelled runs alone whose status nobody has named",
        at="celery_durable.bulk.walk:walk_of",
        old="if found.status is None and kind.default_status is not None:",
        new="if False:",
        tests=(acts("test_only_failed_runs_are_tried_again_unless_the_status_is_named"),),
    ),
    Mutant(
        name="bulk-comes-to-an-end",
        promise="P12",
        takes_out="leaving runs alone that are started meanwhile",
        at="celery_durable.bulk.walk:Walk.go",
        old="self._these.before(matching.now(connection))",
        new="self._these",
        tests=(acts("test_runs_that_are_started_meanwhile_are_left_alone"),),
    ),
    Mutant(
        name="what-was-locked-is-done-alone",
        promise="P2",
        takes_out="waiting for runs that were locked when their page was done",
        at="celery_durable.bulk.action:Action.act",
        old="if self.alone(run_id):",
        new="if False:",
        tests=(acts("test_a_run_that_somebody_has_locked_keeps_no_other_waiting"),),
    ),
    Mutant(
        name="a-page-that-fails-is-done-run-by-run",
        promise="P12",
        takes_out="doing it to each run alone where Postgres refuses it to the page",
        at="celery_durable.bulk.action:Action.act",
        old="except Hindered: acted = Acted()",
        new="except ZeroDivisionError: acted = Acted()",
        tests=(acts("test_a_page_that_postgres_cannot_do_is_done_run_by_run"),),
    ),
    Mutant(
        name="one-refusal-spoils-no-other",
        promise="P12",
        takes_out="going on with the others where one run is refused",
        at="celery_durable.engine.again:start_again",
        old="continue",
        new="raise",
        tests=(acts("test_what_is_refused_is_counted_by_reason_and_spoils_nothing"),),
    ),
    Mutant(
        name="a-dry-run-is-dry",
        promise="P12",
        takes_out="doing nothing in a dry run",
        at="celery_durable.bulk.client:Bulk.bulk",
        old='if checked_flag("dry_run", dry_run):',
        new="if False:",
        tests=(acts("test_a_dry_run_does_nothing"),),
    ),
    Mutant(
        name="all-runs-are-meant-on-purpose",
        promise="P12",
        takes_out="refusing to act on all runs where a filter is missing",
        at="celery_durable.bulk.walk:walk_of",
        old='if checked_flag("everything", everything) is is_filtered:',
        new="if False:",
        tests=(acts("test_what_cannot_be_meant_is_refused"),),
    ),
    Mutant(
        name="the-command-asks",
        promise="P12",
        takes_out="doing nothing without --yes, or an answer",
        at="celery_durable.cli.bulk:act",
        old="if not yes and not _is_confirmed(output, said, preview):",
        new="if False:",
        tests=(
            says("test_in_a_pipe_it_only_says_what_it_would_do"),
            says("test_on_a_terminal_it_asks"),
        ),
    ),
    Mutant(
        name="hints-of-many-are-looked-up",
        promise="P11",
        takes_out="looking the hints of each token up by an index, whatever the statistics say",
        at="celery_durable.store.outbox:clear_hints",
        old="sql.any_of(t.outbox.c.id, found)",
        new="t.outbox.c.id.in_(found)",
        tests=(looks_up("end"),),
    ),
    Mutant(
        name="forks-go-before-what-they-need",
        promise="P12",
        takes_out="deleting the newest runs first",
        at=f"{ACTIONS}:Prune",
        old="oldest_first = False",
        new="oldest_first = True",
        tests=(acts("test_a_run_goes_after_the_runs_that_were_forked_from_it"),),
    ),
    Mutant(
        name="who-stayed-for-a-fork-is-looked-at-again",
        promise="P12",
        takes_out="looking again at runs whose forks have gone",
        at="celery_durable.background.pruning:Pruner.prune_these",
        old="while found and (is_first or self._forks):",
        new="while found and is_first:",
        tests=(acts("test_a_run_goes_after_the_runs_that_were_forked_from_it"),),
    ),
)
