"""The mutants of what stands between the relay and a broker in trouble."""

from tests.mutants.mutant import Mutant

RELAY = "celery_durable.relay"
PUBLISHER = "celery_durable.worker.publisher"

RABBITMQ = "tests/integration/test_relay_rabbitmq.py"
HANGING = f"{RABBITMQ}::test_a_broker_that_stops_answering_is_given_up_and_the_rows_stay"
CHORES = "tests/integration/test_relay_chores.py"

BROKERS = (
    Mutant(
        name="mandatory-messages",
        promise="P2",
        takes_out="asking for a message that no queue takes to be returned",
        at=f"{PUBLISHER}:Confirms._counted",
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
        at=f"{PUBLISHER}:Confirms.take",
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
        name="a-lost-broker-is-not-asked",
        promise="P2",
        takes_out="dropping a connection without waiting for the broker's farewell",
        at=f"{PUBLISHER}:KombuPublisher._drop",
        old="connection.collect()",
        new="connection.default_channel.close()",
        tests=(f"{RABBITMQ}::test_a_broker_that_stops_answering_is_given_up_and_the_rows_stay",),
    ),
    Mutant(
        name="a-declaration-has-a-time",
        promise="P2",
        takes_out="the bound on waiting for the answer to a declaration",
        at=f"{PUBLISHER}:KombuPublisher._ready",
        old='options.setdefault("read_timeout", CONFIRM_TIMEOUT)',
        new="",
        tests=(f"{HANGING}[a declaration]",),
    ),
    Mutant(
        name="chores",
        promise="P5",
        takes_out="the thread that reaps while the relay waits for the broker",
        at=f"{RELAY}:Chores._run",
        old="self._stop.wait(self._work())",
        new="self._stop.wait()",
        tests=(f"{CHORES}::test_a_broker_that_hangs_holds_up_no_takeover",),
    ),
)
