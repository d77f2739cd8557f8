"""The mutants of what keeps one stuck process, run or timer from being in the way of others."""

from tests.mutants.mutant import Mutant

ENGINE = "celery_durable.engine.loop"
TESTS = "tests/integration"
FROZEN = f"{TESTS}/test_frozen_processes.py"
COUNTED = f"{TESTS}/test_crashes_counted.py"
TIMERS = f"{TESTS}/test_timers_left.py"
ORDER = f"{TESTS}/test_outbox_order.py"

UNSTUCK = (
    Mutant(
        name="transactions-are-bounded",
        promise="P2",
        takes_out="ending the transaction of a process that is frozen in it",
        at="celery_durable.engine.transactional:Transactional._commit",
        old="connection.rows(BOUNDED)",
        new="pass",
        tests=(
            f"{FROZEN}::test_a_worker_frozen_before_its_commit_holds_up_neither_takeover_nor_cancel",
        ),
    ),
    Mutant(
        name="locked-runs-are-passed-over",
        promise="P2",
        takes_out="going on to other runs where a command meets a lock",
        at="celery_durable.background.recovery:apply_unless_locked",
        old="except Hindered as error:",
        new="except ZeroDivisionError as error:",
        tests=(f"{FROZEN}::test_a_cancel_that_meets_a_lock_holds_up_nothing_else",),
    ),
    Mutant(
        name="timers-go-with-what-they-were-for",
        promise="P2",
        takes_out="removing the timeout of a signal that came",
        at="celery_durable.store.commit.parameters:variant_of",
        old="clears=may_have_a_timer(decision.token)",
        new="clears=False",
        tests=(f"{TIMERS}::test_a_signal_that_comes_takes_its_timeout_away",),
    ),
    Mutant(
        name="timers-go-with-branches",
        promise="P2",
        takes_out="removing the backoff of branches that a cancel ends in bulk",
        at="celery_durable.store.cancelling.branches:_END_BRANCHES",
        old='.add_cte(_others, clear_hints(_ended).cte("cleared"))',
        new=".add_cte(_others)",
        tests=(
            f"{ORDER}::test_the_hints_of_branches_that_a_cancel_ends_go_with_them",
            f"{TIMERS}::test_a_cancel_takes_the_time_away_that_was_waited_for[backoff of a branch]",
        ),
    ),
    Mutant(
        name="what-has-begun-waits-longer",
        promise="P4",
        takes_out="waiting with a commit for longer than the worker's TTL",
        at=f"{ENGINE}:Engine.__init__",
        old="max(settings.worker_ttl, COMMITS_WITHIN)",
        new="settings.worker_ttl",
        tests=(
            f"{TESTS}/test_outages.py::test_a_unit_is_committed_after_an_outage_of_all_that_is_longer_than_the_ttl",
        ),
    ),
    Mutant(
        name="looking-is-no-crash",
        promise="P5",
        takes_out="forgetting the deaths of those who only looked at a parked step",
        at="celery_durable.core.waits:signalled",
        old="wait=None, answer=event.payload, crashes=0)",
        new="wait=None, answer=event.payload)",
        tests=(f"{COUNTED}::test_deaths_over_a_parked_step_do_not_count_against_it",),
    ),
    Mutant(
        name="loops-that-kill",
        promise="P5",
        takes_out="counting the crashes of a loop's own functions",
        at="celery_durable.engine.waits:Waits._iterated",
        old="if is_loop and token.crashes >= self._max_crashes:",
        new="if False:",
        tests=(
            f"{COUNTED}::test_a_loop_whose_own_function_kills_its_workers_fails_and_its_children_are_undone",
        ),
    ),
    Mutant(
        name="nodes-no-longer-offered",
        promise="P10",
        takes_out="leaving a place alone whose unit stands in the journal already",
        at="celery_durable.engine.compatibility:Compatibility.stop_offering",
        old="self._not_offered[key] = self._not_offered.get(key, frozenset()) | {node}",
        new="_ = node",
        tests=(
            f"{TESTS}/test_reordered_nodes.py::test_a_recorded_unit_is_met_once_and_then_left_alone",
        ),
    ),
)
