"""The mutants of what is measured."""

from tests.mutants.mutant import Mutant

COUNTING = "celery_durable.background.counting"
METRICS = "tests/integration/test_metrics.py"
WEB = "tests/web/test_metrics.py"

MEASURING = (
    Mutant(
        name="counts-are-written-at-most-once",
        promise="P3",
        takes_out="taking counts for written whose commit was not answered",
        at=f"{COUNTING}:write_counts",
        old="is_written = True",
        new="is_written = False",
        tests=(f"{METRICS}::test_a_count_whose_commit_was_not_answered_is_not_written_twice",),
    ),
    Mutant(
        name="counts-that-meet-a-lock-stay",
        promise="P3",
        takes_out="keeping counts that could not be written",
        at=f"{COUNTING}:write_counts",
        old="database.tally.put_back(counted)",
        new="pass",
        tests=(f"{METRICS}::test_what_cannot_be_written_stays_counted",),
    ),
    Mutant(
        name="a-child-counts-for-itself",
        promise="P3",
        takes_out="the tally of its own that a forked child begins with",
        at="celery_durable.database.connections:Database._forget_parent",
        old="self.outage, self.tally = new_outage(), Tally()",
        new="self.outage = new_outage()",
        tests=(f"{METRICS}::test_a_forked_child_does_not_count_what_its_parent_has",),
    ),
    Mutant(
        name="a-run-begins-once",
        promise="P3",
        takes_out="telling the first claim of a run from others",
        at="celery_durable.engine.counting:begun",
        old="if claim.is_first and token.parent is None",
        new="if token.parent is None",
        tests=(
            f"{METRICS}::test_a_run_begins_once_whatever_becomes_of_its_first_unit",
            f"{METRICS}::test_a_run_and_its_units_are_counted",
        ),
    ),
    Mutant(
        name="scrapers-share-an-answer",
        promise="P11",
        takes_out="giving an answer again for some seconds",
        at="celery_durable.view.metrics:Measured.read",
        old="if began >= self._until:",
        new="if True:",
        tests=(f"{METRICS}::test_whoever_asks_again_at_once_costs_postgres_nothing",),
    ),
    Mutant(
        name="deserted-queues-stay-in-sight",
        promise="P2",
        takes_out="looking again at messages to queues that nobody consumes",
        at="celery_durable.store.lost_hints:_looked",
        old='(_judged.c.is_published, sql.clock + sql.number("at_most") * _second),',
        new="",
        tests=(f"{METRICS}::test_a_message_to_a_queue_that_nobody_consumes_stays_in_sight",),
    ),
    Mutant(
        name="metrics-take-a-token",
        promise="P12",
        takes_out="asking a scraper of the page for a token",
        at="celery_durable.web.metrics:metrics",
        old="(refusal := await _refusal_of(request)) is not None",
        new="False",
        tests=(f"{WEB}::test_without_a_token_nobody_reads_them",),
    ),
)
