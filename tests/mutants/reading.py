"""The mutants of what is read of runs."""

from tests.mutants.mutant import Mutant

FILTERS = "celery_durable.store.read.filters"
LISTING = "tests/integration/test_listing.py"
AMONG_MANY = "tests/integration/test_why_among_many.py"
WHY = "tests/unit/test_why.py"
LOOKING = "tests/integration/test_looking.py"

PICTURES = "tests/integration/test_pictures.py"

READING = (
    Mutant(
        name="timelines-list-so-many-units",
        promise="P11",
        takes_out="the limit of units that a timeline lists",
        at="celery_durable.store.read.spans:_PARTS",
        old='.limit(sql.integer("limit"))',
        new="",
        tests=(f"{PICTURES}::test_units_that_are_listed_are_so_many_and_no_more",),
    ),
    Mutant(
        name="many-units-are-counted-in-a-timeline",
        promise="P11",
        takes_out="counting the units of a node of which there are many",
        at="celery_durable.view.picture.reading:_listed_and_folded",
        old="counts[name] <= min(room, MOST_PARTS)",
        new="counts[name]",
        tests=(f"{PICTURES}::test_a_run_of_very_many_units_is_a_small_picture",),
    ),
    Mutant(
        name="pictures-have-only-what-xml-can-write",
        promise="P12",
        takes_out="leaving out of a picture what XML has no way to write",
        at="celery_durable.view.picture.svg:_allowed",
        old='_REFUSED.sub(" ", text)',
        new="text",
        tests=("tests/unit/test_picture_timeline.py::test_no_name_and_no_error_breaks_a_timeline",),
    ),
    Mutant(
        name="units-of-a-status-are-bounded",
        promise="P11",
        takes_out="reading at most 100 units of a run",
        at="celery_durable.store.read.position:_shown",
        old=".limit(sa.literal_column(str(SHOWN)))",
        new=".offset(sa.literal_column('0'))",
        tests=(f"{LOOKING}::test_a_status_of_many_branches_reads_few_of_them",),
    ),
    Mutant(
        name="lists-are-paged-before-they-are-read",
        promise="P11",
        takes_out="the limit of a list",
        at=f"{FILTERS}:_first",
        old='.limit(sql.integer("limit"))',
        new="",
        tests=("tests/integration/test_long_lists.py::test_a_page_of_a_long_list_reads_few_rows",),
    ),
    Mutant(
        name="clocks-may-differ",
        promise="P12",
        takes_out="finding a run whose id was made by a clock that goes wrong",
        at=f"{FILTERS}:CLOCKS_DIFFER",
        old="3_600_000",
        new="0",
        tests=(f"{LISTING}::test_a_clock_that_goes_wrong_by_less_than_an_hour_hides_no_run",),
    ),
    Mutant(
        name="errors-between-tries-are-found",
        promise="P12",
        takes_out="finding the runs whose units are tried again after an error",
        at=f"{FILTERS}:page",
        old="for error in (ERROR_OF_RUN, ERROR_OF_UNIT)",
        new="for error in (ERROR_OF_RUN,)",
        tests=(f"{LISTING}::test_runs_are_found_by_their_error",),
    ),
    Mutant(
        name="branches-called-compensate",
        promise="P8",
        takes_out="telling a branch that is called compensate from a compensation",
        at=f"{FILTERS}:COMPENSATION_FAILED",
        old="t.journal.c.position.is_(None),",
        new="",
        tests=(f"{LISTING}::test_runs_are_found_that_are_not_undone",),
    ),
    Mutant(
        name="signals-of-one-run-are-read",
        promise="P11",
        takes_out="looking up the signals of the run that is asked about, and of no other",
        at="celery_durable.store.read.facts:_signals",
        old="t.inbox.c.run_id == _asked_id,",
        new="t.inbox.c.run_id > _asked_id,",
        tests=(f"{AMONG_MANY}::test_why_one_of_100_000_runs_waits_is_read_from_few_rows",),
    ),
    Mutant(
        name="deaf-since-it-was-due",
        promise="P11",
        takes_out="telling a deaf worker though hints are sent again",
        at="celery_durable.core.why:_in_queue",
        old="if facts.at - one.due_at < DEAF_AFTER:",
        new="if facts.at - one.hinted_at < DEAF_AFTER:",
        tests=(
            f"{WHY}::test_a_hint_that_was_sent_again_does_not_hide_that_nobody_takes_it",
            "tests/brokers/test_why.py::test_a_worker_whose_consumer_was_cut[redis]",
        ),
    ),
    Mutant(
        name="what-nobody-knows-is-not-delayed",
        promise="P11",
        takes_out="telling that no worker knows a run, while it is put back for later",
        at="celery_durable.core.why:_later",
        old="one.wake_at - facts.at <= PUT_BACK_FOR and",
        new="False and",
        tests=(f"{WHY}::test_what_is_put_back_because_nobody_knows_it_is_not_delayed",),
    ),
    Mutant(
        name="no-queue-is-not-any-queue",
        promise="P11",
        takes_out="writing down that a worker consumes nothing",
        at="celery_durable.store.workers:set_queues",
        old="[*queues] or [NO_QUEUE]",
        new="[*queues]",
        tests=("tests/brokers/test_why.py::test_a_worker_whose_last_queue_was_cancelled[redis]",),
    ),
)
