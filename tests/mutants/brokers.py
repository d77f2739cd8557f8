"""The mutants of what stands between the relay and a broker in trouble."""

from tests.mutants.mutant import Mutant

RELAY = "celery_durable.background.relay"
PUBLISHER = "celery_durable.worker.publisher"
CONFIRMS = "celery_durable.worker.confirms"
LINK = "celery_durable.worker.brokers"
RECONNECT = "celery_durable.worker.reconnect"

RABBITMQ = "tests/integration/test_relay_rabbitmq.py"
HANGING = f"{RABBITMQ}::test_a_broker_that_stops_answering_is_given_up_and_the_rows_stay"
FAILOVER = "tests/integration/test_relay_failover.py"
FULL = "tests/integration/test_backpressure.py"
STRANGERS = "tests/integration/test_strangers.py"
CHORES = "tests/integration/test_relay_chores.py"
RESTARTS = "tests/brokers/test_broker_restarts.py"

BROKERS = (
    Mutant(
        name="one-thread-reads-a-connection",
        promise="P2",
        takes_out="leaving the prefetch count to the main thread after a reconnect",
        at=f"{RECONNECT}:restore_prefetch_in_main_thread",
        old="consumer.call_soon(restore, *args)",
        new="restore(*args)",
        tests=(
            f"{RESTARTS}::test_only_the_thread_that_reads_the_connection_changes_the_prefetch_count",
        ),
    ),
    Mutant(
        name="connected-before-rows-are-taken",
        promise="P2",
        takes_out="connecting to the broker before rows are locked",
        at=f"{RELAY}:Relay._publish_batch",
        old="self._publisher.connect()",
        new="pass",
        tests=(f"{FAILOVER}::test_one_whose_broker_never_answers_keeps_no_row_from_the_others",),
    ),
    Mutant(
        name="mandatory-messages",
        promise="P2",
        takes_out="asking for a message that no queue takes to be returned",
        at=f"{CONFIRMS}:Confirms._publish_counted",
        old='options["mandatory"] = True',
        new="",
        tests=(
            f"{RABBITMQ}::test_messages_whose_queue_was_deleted_are_not_lost",
            f"{RABBITMQ}::test_a_message_that_no_queue_takes_is_kept_and_the_others_go",
        ),
    ),
    Mutant(
        name="returned-is-not-sent",
        promise="P2",
        takes_out="telling a returned message from one that a queue has",
        at=f"{CONFIRMS}:Confirms.take",
        old="if row not in self._returned]",
        new="]",
        tests=(f"{RABBITMQ}::test_a_message_that_no_queue_takes_is_kept_and_the_others_go",),
    ),
    Mutant(
        name="queues-are-declared-anew",
        promise="P2",
        takes_out="a new connection, which declares queues, after messages came back",
        at=f"{PUBLISHER}:KombuPublisher._publish_together",
        old="if answers.again: self._drop()",
        new="",
        tests=(f"{RABBITMQ}::test_messages_whose_queue_was_deleted_are_not_lost",),
    ),
    Mutant(
        name="a-declaration-has-a-time",
        promise="P2",
        takes_out="the bound on waiting for the answer to a declaration",
        at=f"{LINK}:bounded_options",
        old='names = ("read_timeout", "write_timeout")',
        new='names = ("write_timeout",)',
        tests=(f"{HANGING}[a declaration]",),
    ),
    Mutant(
        name="fails-over",
        promise="P2",
        takes_out="going on to the next broker when one fails",
        at=f"{LINK}:Brokers.pass_over",
        old="self._url = next(self._cycle)",
        new="pass",
        tests=(f"{FAILOVER}::test_it_publishes_to_the_first_that_answers[a list-redis]",),
    ),
    Mutant(
        name="a-mute-broker-is-left",
        promise="P2",
        takes_out="the bound on what Redis is waited for",
        at=f"{LINK}:bounded_options",
        old='options = {**configured, "socket_timeout": seconds}',
        new='options = {**configured, "socket_timeout": None}',
        tests=(f"{FAILOVER}::test_one_that_accepts_and_never_answers_is_passed_over[redis]",),
    ),
    Mutant(
        name="a-nack-is-backpressure",
        promise="P2",
        takes_out="laying a message that a full queue refuses to the queue",
        at=f"{PUBLISHER}:published_of",
        old="if why is not None and message.queue is not None:",
        new="if why is not None and message.queue is None:",
        tests=(
            f"{FULL}::test_rows_of_a_full_queue_stay_as_they_are_and_bad_ones_record_their_error",
        ),
    ),
    Mutant(
        name="paused-queues-are-skipped",
        promise="P2",
        takes_out="leaving out the rows of queues that are full",
        at="celery_durable.background.backpressure:Backpressure.paused",
        old="if pause.until > now",
        new="if not pause",
        tests=(f"{FULL}::test_a_queue_that_refuses_for_ever_costs_one_try_at_a_time",),
    ),
    Mutant(
        name="a-blocked-broker-is-kept",
        promise="P2",
        takes_out="keeping the connection to a broker that is short of memory",
        at=f"{PUBLISHER}:KombuPublisher._unavailable",
        old="if not isinstance(error, Blocked) and",
        new="if",
        tests=(f"{FULL}::test_a_broker_that_is_short_of_memory_gets_each_message_once",),
    ),
    Mutant(
        name="strangers-are-noticed",
        promise="P2",
        takes_out="noticing hints of another schema",
        at="celery_durable.store.tokens:_REFUSAL",
        old='sql.text("origin").is_distinct_from(origin.OURS),',
        new='sql.text("origin").is_distinct_from(sql.text("origin")),',
        tests=(f"{STRANGERS}::test_a_token_that_was_never_here_is_warned_of_once",),
    ),
    Mutant(
        name="ended-tokens-are-no-strangers",
        promise="P2",
        takes_out="telling a token that has ended from one of another schema",
        at="celery_durable.store.tokens:_REFUSAL",
        old='sql.text("origin").is_distinct_from(origin.OURS),',
        new="",
        tests=(f"{STRANGERS}::test_a_token_that_has_ended_is_not_warned_of",),
    ),
    Mutant(
        name="chores",
        promise="P5",
        takes_out="the thread that reaps while the relay waits for the broker",
        at=f"{RELAY}:Chore._run",
        old="self._stop.wait(self._once())",
        new="self._stop.wait()",
        tests=(f"{CHORES}::test_a_broker_that_hangs_holds_up_no_takeover",),
    ),
)
