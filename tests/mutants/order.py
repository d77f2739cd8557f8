"""The mutants of the outbox: what is taken first, what a look costs, what is put but once."""

from tests.mutants.mutant import Mutant

STALLED = "celery_durable.store.lost_hints"
BACKLOG = "celery_durable.background.backlog"
DUE = "celery_durable.store.due"
GATES = "celery_durable.store.commit.fork"
CLAIM = "celery_durable.engine.claims"

RUNNING = "tests/integration/test_relay_running.py"
LOOK = "tests/integration/test_look_for_lost.py"
ORDER = "tests/integration/test_outbox_order.py"

ORDERS: tuple[Mutant, ...] = (
    Mutant(
        name="priorities",
        promise="P2",
        takes_out="the direction in which a broker counts priorities",
        at=f"{BACKLOG}:Backlog.__init__",
        old="1 if lowest_first else -1",
        new="-1",
        tests=(f"{ORDER}::test_a_higher_priority_goes_before_all_that_wait",),
    ),
    Mutant(
        name="crowds",
        promise="P2",
        takes_out="keeping the messages of a large map apart",
        at=f"{GATES}:_crowd",
        old='sa.func.floor(sa.func.ln(counted) / sa.literal_column("ln(2)"))',
        new='sa.func.floor(sa.func.ln(counted) * sa.literal_column("0"))',
        tests=(f"{ORDER}::test_a_run_that_has_put_thousands_holds_up_no_other",),
    ),
    Mutant(
        name="where-a-look-begins",
        promise="P11",
        takes_out="beginning where the last look ended",
        at=f"{BACKLOG}:Watermark.move_on",
        old="self.start, self._before = self._before, self.reached",
        new="pass",
        tests=(f"{ORDER}::test_what_is_long_sent_costs_no_later_look",),
    ),
    Mutant(
        name="beyond-what-has-a-time",
        promise="P11",
        takes_out="going on behind rows that have a time",
        at=f"{BACKLOG}:Backlog._note",
        old="self._front.reach(self.sight.newest)",
        new="pass",
        tests=(f"{ORDER}::test_what_has_a_time_costs_no_look",),
    ),
    Mutant(
        name="what-others-have-in-hand",
        promise="P2",
        takes_out="looking soon again for what another relay had in hand",
        at=f"{BACKLOG}:Backlog.seconds_to_sweep",
        old="self._sweep_at - time.monotonic() if self._saw_some else math.inf",
        new="math.inf",
        tests=(f"{RUNNING}::test_what_a_relay_that_died_had_in_hand_is_soon_sent_by_another",),
    ),
    Mutant(
        name="late-commits",
        promise="P2",
        takes_out="looking at everything from time to time",
        at=f"{BACKLOG}:Backlog._see",
        old="sweeps = now >= self._sweep_at",
        new="sweeps = self._sweep_at == self._moved_at",
        tests=(f"{ORDER}::test_what_was_committed_late_is_found",),
    ),
    Mutant(
        name="the-same-once",
        promise="P2",
        takes_out="sending one of the hints that say the same",
        at=f"{DUE}:DueMessage.says",
        old="return self.id if self.token_id is None else (self.task, *self.args)",
        new="return self.id",
        tests=(f"{ORDER}::test_of_hints_that_say_the_same_one_is_sent",),
    ),
    Mutant(
        name="one-refused-hint",
        promise="P2",
        takes_out="removing what calls for the same token as a refused row",
        at=f"{DUE}:_others",
        old="t.outbox.c.id != _postponed.c.id, IS_AT_ONCE",
        new="sa.false()",
        tests=(f"{ORDER}::test_a_hint_that_the_broker_refuses_stays_the_only_one_of_its_token",),
    ),
    Mutant(
        name="ready-is-ready",
        promise="P2",
        takes_out="that what is not delayed has no time",
        at="celery_durable.store.commit.parameters:_then_parameters",
        old="then.delay if then.delay > 0 else None",
        new="then.delay",
        tests=(f"{ORDER}::test_a_clock_that_is_set_back_delays_nothing_that_is_due",),
    ),
    Mutant(
        name="due-soon",
        promise="P2",
        takes_out="waking the relays for what is due before they look by themselves",
        at=f"{CLAIM}:Claims.notify_of",
        old="delay < self._settings.poll_interval",
        new="delay <= 0",
        tests=(f"{RUNNING}::test_what_is_due_soon_is_not_late_for_a_relay_that_looks_seldom",),
    ),
    Mutant(
        name="a-time-to-look",
        promise="P2",
        takes_out="looking at a token when it is time",
        at=f"{STALLED}:_coming",
        old="t.token.c.look_at <= sa.func.now(),",
        new="sa.false(),",
        tests=(f"{LOOK}::test_a_lost_hint_is_found_when_it_is_time",),
    ),
    Mutant(
        name="looked-at-once",
        promise="P11",
        takes_out="looking no more at what waits",
        at=f"{STALLED}:_looked",
        old="else_=sa.null(),",
        new="else_=sql.clock,",
        tests=(f"{LOOK}::test_what_waits_is_looked_at_once_and_then_no_more",),
    ),
    Mutant(
        name="sent-and-watched",
        promise="P2",
        takes_out="looking at what has waited from the moment that its message is sent",
        at=f"{DUE}:_DELETE",
        old=".values(look_at=LOOK_AT)",
        new=".values(look_at=sa.null())",
        tests=(f"{LOOK}::test_what_waited_is_looked_at_from_the_moment_that_its_message_is_sent",),
    ),
    Mutant(
        name="consumed-by-nobody",
        promise="P2",
        takes_out="sending nothing again to a queue that nobody consumes",
        at=f"{STALLED}:_is_consumed",
        old="sa.exists().where(_is_live, _may_consume)",
        new="sa.exists().where(_is_live)",
        tests=(
            f"{LOOK}::test_a_queue_that_no_live_worker_consumes_gets_one_message_for_each_token",
        ),
    ),
    Mutant(
        name="the-pace-of-a-queue",
        promise="P2",
        takes_out="being as patient as a queue is slow",
        at=f"{STALLED}:_timeout",
        old="2 * _pace",
        new="0 * _pace",
        tests=(
            f"{LOOK}::test_what_waits_in_a_long_queue_is_not_sent_again",
            f"{LOOK}::test_behind_a_step_that_takes_long_nothing_is_sent_again_for_a_while",
        ),
    ),
    Mutant(
        name="the-pace-is-remembered",
        promise="P2",
        takes_out="remembering how slow a queue was while nobody has anything in hand",
        at="celery_durable.background.recovery:_hint_timeouts",
        old="pace * PACE_FADES",
        new="0.0",
        tests=(f"{LOOK}::test_what_was_taken_late_is_remembered_for_some_turns",),
    ),
)
