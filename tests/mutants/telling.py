"""The mutants of what is told of runs: tasks at their end, signals, log records."""

from tests.mutants.mutant import Mutant

COMMIT = "celery_durable.engine.commit"
ANNOUNCE = "celery_durable.engine.announce"

HOOKS = "tests/integration/test_hooks.py"
PUBLISHED = "tests/integration/test_published_tasks.py"
SIGNALS = "tests/integration/test_run_signals.py"
SIGNATURES = "tests/unit/test_hook_signatures.py"
RECORDS = "tests/unit/test_log_records.py"

TELLING = (
    Mutant(
        name="hook-in-the-commit",
        promise="P1",
        takes_out="the task that is sent with the end of a run",
        at="celery_durable.store.commit.statement:_told",
        old='[tasks_sent(held).cte("tasks_put")] if variant.sends else []',
        new="[]",
        tests=(f"{HOOKS}::test_a_completed_run_sends_its_task_with_its_id_first",),
    ),
    Mutant(
        name="hooks-of-bundled-runs",
        promise="P1",
        takes_out="ending a run that sends a task by a commit of its own",
        at="celery_durable.store.bundle.committing:may_be_bundled",
        old="(decision.starts, decision.consumes, decision.sends) != (None, None, ())",
        new="(decision.starts, decision.consumes) != (None, None)",
        tests=(f"{HOOKS}::test_the_runs_of_a_bundle_send_their_tasks_each",),
    ),
    Mutant(
        name="relay-is-woken-for-a-hook",
        promise="P2",
        takes_out="waking the relays for the task of a run that ended",
        at=f"{COMMIT}:_next_hint",
        old="if decision.sends:",
        new="if False:",
        tests=(f"{HOOKS}::test_the_relay_is_woken_for_the_task",),
    ),
    Mutant(
        name="one-task-id-for-one-end",
        promise="P2",
        takes_out="the id by which a task that is published twice is told",
        at="celery_durable.workflow.hooks:Hook.message",
        old='{**self.options, "task_id": task_id_of(run_id, status)}',
        new="{**self.options}",
        tests=(f"{PUBLISHED}::test_a_task_is_published_once_with_the_id_that_it_always_has",),
    ),
    Mutant(
        name="hooks-without-callbacks",
        promise="P12",
        takes_out="refusing a hook whose options the outbox cannot hold",
        at="celery_durable.ordinary.signatures:hook_of",
        old="if name in REFUSED:",
        new="if False:",
        tests=(
            f"{SIGNATURES}::test_what_the_outbox_cannot_hold_is_refused_where_it_is_defined[an id]",
        ),
    ),
    Mutant(
        name="results-of-tasks-are-their-own",
        promise="P2",
        takes_out="leaving to a task whether its result is kept",
        at="celery_durable.worker.publisher:KombuPublisher._options_of_task",
        old='{**options.get("headers", {}), "ignore_result": ignored}',
        new='{**options.get("headers", {})}',
        tests=(f"{PUBLISHED}::test_the_worker_of_a_task_keeps_its_result_where_the_task_says_so",),
    ),
    Mutant(
        name="receivers-do-not-hold-up-the-guard",
        promise="P4",
        takes_out="keeping signals for the thread that executes units",
        at=f"{ANNOUNCE}:Announcer.committed",
        old="self._pending.extend(announcements(claim, decision, event))",
        new="[one.send() for one in announcements(claim, decision, event)]",
        tests=(f"{SIGNALS}::test_no_receiver_is_called_by_the_thread_that_looks_after_bundles",),
    ),
    Mutant(
        name="what-is-unknown-is-not-told",
        promise="P1",
        takes_out="telling only of decisions that are known to be written",
        at=f"{COMMIT}:Committer._tell",
        old="if isinstance(answer, Written):",
        new="if True:",
        tests=(f"{SIGNALS}::test_a_commit_whose_answer_was_lost_is_not_told",),
    ),
    Mutant(
        name="joined-starts-are-not-told",
        promise="P7",
        takes_out="telling of no start that the caller may take back",
        at="celery_durable.connected:Connected._writing",
        old="notify.joined(session)",
        new="announce()",
        tests=(f"{SIGNALS}::test_a_start_that_joins_a_transaction_tells_nothing",),
    ),
    Mutant(
        name="records-know-their-unit",
        promise="P12",
        takes_out="telling log records which unit is executed",
        at="celery_durable.workflow.execute:_guarded",
        old="executing.set(claim)",
        new="pass",
        tests=(f"{RECORDS}::test_a_record_of_a_handler_says_which_unit_logged_it",),
    ),
)
