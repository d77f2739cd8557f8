"""The mutants of ordinary tasks that go through the outbox."""

from tests.mutants.mutant import Mutant

OUTBOX_TASK = "celery_durable.ordinary.outbox_task:OutboxTask.apply_async"

UNITS = "tests/integration/test_sent_by_units.py"
TASKS = "tests/integration/test_outbox_tasks.py"
MESSAGES = "tests/integration/test_outbox_messages.py"

SENDING = (
    Mutant(
        name="a-task-is-rolled-back-with-its-transaction",
        promise="P7",
        takes_out="writing a task through the session that it joins",
        at="celery_durable.durable:Durable.send_task",
        old="self._joined(session)",
        new="None",
        tests=(
            f"{TASKS}::test_a_task_that_is_rolled_back_is_not_sent_and_one_that_is_committed_is[orm_session]",
        ),
    ),
    Mutant(
        name="delay-joins-what-is-open",
        promise="P7",
        takes_out="looking for the transaction in which an OutboxTask is called",
        at=OUTBOX_TASK,
        old="session = durable.open.session()",
        new="session = None",
        tests=(f"{TASKS}::test_delay_joins_the_session_that_is_bound[orm_session]",),
    ),
    Mutant(
        name="a-retry-joins-nothing",
        promise="P2",
        takes_out="sending at once what a task goes on with",
        at=OUTBOX_TASK,
        old="any(map(options.get, AGAIN))",
        new="False",
        tests=(f"{TASKS}::test_what_a_task_does_to_go_on_is_sent_at_once",),
    ),
    Mutant(
        name="a-unit-sends-what-it-commits",
        promise="P1",
        takes_out="dropping the tasks of a unit whose result is dropped",
        at="celery_durable.engine.commit:with_tasks",
        old="execution.sends if decision.keeps else ()",
        new="execution.sends",
        tests=(f"{UNITS}::test_a_unit_whose_run_is_cancelled_meanwhile_sends_nothing",),
    ),
    Mutant(
        name="a-relay-is-woken-for-the-tasks-of-a-unit",
        promise="P2",
        takes_out="waking the relays for the tasks of a unit whose worker goes straight on",
        at="celery_durable.engine.commit:Committer.continue_with",
        old="if decision.sends:",
        new="if False:",
        tests=(
            (
                f"{UNITS}::test_a_relay_is_woken_for_what_a_unit_has_sent_though_its_worker"
                "_goes_straight_on"
            ),
        ),
    ),
    Mutant(
        name="tasks-keep-their-order",
        promise="P7",
        takes_out="writing the tasks of a unit in the order in which it has sent them",
        at="celery_durable.store.outbox:tasks_sent",
        old=".order_by(_sent.c.n)",
        new=".order_by(_sent.c.n.desc())",
        tests=(f"{UNITS}::test_a_unit_sends_its_tasks_in_order_when_it_commits",),
    ),
    Mutant(
        name="a-message-is-made-at-the-call",
        promise="P7",
        takes_out="publishing a task's message as it was made",
        at="celery_durable.worker.publisher:KombuPublisher._send",
        old="if is_captured(message):",
        new="if False:",
        tests=(f"{MESSAGES}::test_a_message_has_every_option_that_it_would_have_had",),
    ),
    Mutant(
        name="long-messages-are-refused",
        promise="P12",
        takes_out="refusing a message that is too long at the call",
        at="celery_durable.ordinary.message:_stored_body",
        old="if len(raw) > limit:",
        new="if False:",
        tests=(f"{MESSAGES}::test_what_the_outbox_cannot_hold_is_refused_at_the_call[too much]",),
    ),
)
