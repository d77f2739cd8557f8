"""The tables. The migrations create them; a test holds the two equal.

CHECK constraints state the law. Payloads are `json`, not `jsonb`: they come back exactly as they
were written (key order, 1.0 and 1e16 as floats) and cost no parsing on the way in; see ADR 0002.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from celery_durable.core.decision import Outcome
from celery_durable.core.nodes import Gathers
from celery_durable.core.status import FINISHED, READ_FROM_TOKENS, Status
from celery_durable.store.connection import SCHEMA

metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)


def include_name(name: str | None, type_: str, _parents: object = None) -> bool:
    """For a user's Alembic `context.configure(include_name=...)`: leaves our tables alone."""
    return not (type_ == "table" and name is not None and name.startswith("durable_"))


def _one_of(column: str, values: Iterable[StrEnum], name: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


def _time(name: str, *, nullable: bool = False, default: bool = False) -> sa.Column[object]:
    clock = sa.text("clock_timestamp()") if default else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=clock)


LOOK_AFTER = 10
"""Seconds after which recovery looks whether a hint was lost."""

_FINISHED = ", ".join(f"'{status}'" for status in Status if status in FINISHED)

run = sa.Table(
    "durable_run",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("priority", sa.SmallInteger),
    sa.Column("input", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON),
    sa.Column("error", sa.JSON),
    _time("cancel_requested_at", nullable=True),
    sa.Column("cancel_reason", sa.Text),
    sa.Column("tags", JSONB, nullable=False, server_default="{}"),
    sa.Column("parent_token", sa.Uuid),
    sa.Column("parent_run_id", sa.Uuid),
    sa.Column("root_run_id", sa.Uuid),
    # The trace of whoever has started it, as W3C Trace Context writes it: traceparent, tracestate.
    sa.Column("trace", sa.JSON),
    # How many runs are above it.
    sa.Column("depth", sa.Integer, nullable=False, server_default="0"),
    # The run that it goes on with the work of, and the one that goes on with its own.
    sa.Column("forked_from", sa.Uuid),
    sa.Column("retried_as", sa.Uuid),
    # When it fails unless it has ended, and when it is cancelled unless it has begun (`deadlines`).
    _time("times_out_at", nullable=True),
    _time("expires_at", nullable=True),
    _time("created_at", default=True),
    _time("started_at", nullable=True),
    _time("updated_at", default=True),
    _time("finished_at", nullable=True),
    sa.UniqueConstraint("workflow", "key"),
    _one_of("status", (s for s in Status if s not in READ_FROM_TOKENS), "status"),
    sa.CheckConstraint(
        f"(finished_at IS NOT NULL) = (status IN ({_FINISHED}))", name="finished_has_a_time"
    ),
    sa.CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failed_has_an_error"),
    sa.Index(None, "status", "id"),
    sa.Index(None, "workflow", "id"),
    sa.Index(None, "tags", postgresql_using="gin"),
    sa.Index(None, "parent_run_id", "id", postgresql_where=sa.text("parent_run_id IS NOT NULL")),
    sa.Index(None, "forked_from", postgresql_where=sa.text("forked_from IS NOT NULL")),
    sa.Index(
        "durable_run_schedule_idx",
        "workflow",
        sa.text("(tags ->> 'schedule')"),
        postgresql_where=sa.text("finished_at IS NULL AND (tags ->> 'schedule') IS NOT NULL"),
    ),
    sa.Index(
        "durable_run_error_idx",
        sa.text("regexp_replace(error ->> 'type', '^.*[.]', '')"),
        "id",
        postgresql_where=sa.text("error IS NOT NULL"),
    ),
    # Those that nobody has called to end yet, in the order of their deadlines.
    sa.Index(
        "durable_run_deadline_idx",
        sa.text("least(times_out_at, expires_at)"),
        postgresql_where=sa.text(
            "finished_at IS NULL AND cancel_requested_at IS NULL AND status <> 'compensating'"
            " AND least(times_out_at, expires_at) IS NOT NULL"
        ),
    ),
    # What retention reads: tops of trees that have ended, the oldest first. A row enters it once.
    sa.Index(
        "durable_run_ended_idx",
        "status",
        "finished_at",
        "id",
        postgresql_where=sa.text("parent_run_id IS NULL AND finished_at IS NOT NULL"),
    ),
)

run_deadline = sa.func.least(run.c.times_out_at, run.c.expires_at)
"""The first of the two deadlines of a run, written as in `durable_run_deadline_idx`."""

run_schedule = sa.literal_column("tags ->> 'schedule'", sa.Text)
"""The schedule that has started a run, written as in `durable_run_schedule_idx`."""

token = sa.Table(
    "durable_token",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("run_id", sa.Uuid, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
    sa.Column("flags", sa.Integer, nullable=False, server_default="0"),
    sa.Column("rollback", sa.Text),
    sa.Column("failures", sa.JSON),
    # A branch has a parent; a branch, a case, an item and an iteration are told apart by these two.
    sa.Column("parent_id", sa.Uuid),
    sa.Column("part", sa.Text),
    sa.Column("position", sa.Integer),
    # What it waits for, and until when at the latest; a token that waits for nothing is ready. A
    # token that is not delayed has no time, so that a clock which is set back does not delay it.
    sa.Column("wait", sa.Text),
    sa.Column("awaits", sa.Text),
    sa.Column("child_run_id", sa.Uuid),
    _time("waiting_since", nullable=True),
    # Who may answer, by name; any operator if the list is empty. No list where the token waits for
    # no person.
    sa.Column("assignees", JSONB),
    # When it was claimed, moved, parked, released or reaped.
    _time("since", default=True),
    _time("wake_at", nullable=True),
    # The gate of a fork: how many branches have not left, how many of those that have left have
    # failed, how many there are, and how many have been opened.
    sa.Column("remaining", sa.Integer),
    sa.Column("failed", sa.Integer),
    sa.Column("total", sa.Integer),
    sa.Column("opened", sa.Integer),
    sa.Column("input", sa.JSON),
    sa.Column("snapshot", sa.JSON),
    sa.Column("answer", sa.JSON),
    sa.Column("progress", sa.JSON),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger),
    sa.Column("time_limit", sa.Double),
    # Its message names no other token: its unit is slow, or a sibling's failure may drop it.
    sa.Column("single", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("fence", sa.Uuid, nullable=False),
    sa.Column("claimed_by", sa.Uuid),
    # Whether anybody has ever claimed it, and not released it with nothing done. A branch that has
    # not begun is dropped by fail_fast, and a run that has not may expire.
    sa.Column("begun", sa.Boolean, nullable=False, server_default=sa.false()),
    # Whether it had not when it was claimed last.
    sa.Column("first_claim", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("deadline_at", nullable=True),
    _time("hinted_at", default=True),
    sa.Column("hints", sa.Integer, nullable=False, server_default="0"),
    # When to look whether its hint was lost; no time while no hint of it is on its way.
    sa.Column(
        "look_at",
        sa.DateTime(timezone=True),
        server_default=sa.text(f"clock_timestamp() + interval '{LOOK_AFTER} seconds'"),
    ),
    sa.CheckConstraint("attempt >= 1 AND crashes >= 0 AND hints >= 0", name="counts"),
    sa.CheckConstraint("rollback IN ('failed', 'cancelled')", name="rollback"),
    sa.CheckConstraint("wait IN ('signal', 'timer', 'child', 'branches', 'operator')", name="wait"),
    sa.CheckConstraint(
        "coalesce(wait = 'signal', false) = (awaits IS NOT NULL)", name="signal_has_a_name"
    ),
    sa.CheckConstraint(
        "coalesce(wait = 'child', false) = (child_run_id IS NOT NULL)", name="child_has_a_run"
    ),
    sa.CheckConstraint(
        "num_nonnulls(remaining, failed, total, opened) = CASE WHEN wait = 'branches' THEN 4"
        " ELSE 0 END",
        name="fork_has_a_gate",
    ),
    sa.CheckConstraint(
        "remaining BETWEEN 0 AND total AND failed >= 0 AND opened <= total", name="gate"
    ),
    sa.CheckConstraint(
        "wake_at IS NOT NULL OR wait IS DISTINCT FROM 'timer'", name="timer_has_a_time"
    ),
    sa.CheckConstraint(
        "(waiting_since IS NOT NULL) = (wait IS NOT NULL)", name="waits_since_a_time"
    ),
    sa.Index(None, "run_id"),
    # A run has one token that is no branch; found among however many branches.
    sa.Index(
        "durable_token_first_idx",
        "run_id",
        unique=True,
        postgresql_where=sa.text("parent_id IS NULL"),
    ),
    sa.Index(None, "run_id", "awaits", postgresql_where=sa.text("awaits IS NOT NULL")),
    sa.Index(None, "parent_id", postgresql_where=sa.text("parent_id IS NOT NULL")),
    # Waits for a person, the oldest first; and those for one of them.
    sa.Index(
        "durable_token_asking_idx",
        "waiting_since",
        "id",
        postgresql_where=sa.text("assignees IS NOT NULL"),
    ),
    sa.Index(
        "durable_token_assignees_idx",
        "assignees",
        postgresql_using="gin",
        postgresql_where=sa.text("assignees IS NOT NULL"),
    ),
    sa.Index(None, "claimed_by", postgresql_where=sa.text("claimed_by IS NOT NULL")),
    # Units that are tried again; a unit that does not fail is never in it.
    sa.Index(
        "durable_token_failing_idx", "run_id", postgresql_where=sa.text("failures IS NOT NULL")
    ),
    # Claims and releases change an index in any case; a step that goes straight on changes none.
    sa.Index(
        None, "look_at", postgresql_where=sa.text("claimed_by IS NULL AND look_at IS NOT NULL")
    ),
)

item = sa.Table(
    "durable_item",
    metadata,
    sa.Column("token_id", sa.Uuid, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("input", sa.JSON, nullable=False),
)
"""Items of a map that wait for room in its window; each becomes a token when there is room."""

journal = sa.Table(
    "durable_journal",
    metadata,
    sa.Column("run_id", sa.Uuid, primary_key=True),
    # By bytes, so that the units of one node are a range of the key.
    sa.Column("unit", sa.Text(collation="C"), primary_key=True),
    sa.Column("seq", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("part", sa.Text),
    sa.Column("position", sa.Integer),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("undoable", sa.Boolean, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("input", sa.JSON),
    sa.Column("result", sa.JSON),
    sa.Column("gathers", sa.Text),
    sa.Column("child_run_id", sa.Uuid),
    sa.Column("error", sa.JSON),
    sa.Column("failures", sa.JSON),
    # None where no worker has executed it: a cancel has ended what waited.
    sa.Column("worker", sa.Uuid),
    # The run that has executed it, and has its result, where this one goes on with its work.
    sa.Column("inherited_from", sa.Uuid),
    _time("started_at"),
    _time("finished_at", default=True),
    _one_of("outcome", Outcome, "outcome"),
    _one_of("gathers", Gathers, "gathers"),
    sa.CheckConstraint("gathers IS NULL OR result IS NULL", name="gathered_has_no_result"),
    sa.CheckConstraint(
        "gathers IS DISTINCT FROM 'child' OR child_run_id IS NOT NULL", name="child_has_a_run"
    ),
    sa.CheckConstraint("outcome <> 'failed' OR error IS NOT NULL", name="failed_has_an_error"),
    sa.CheckConstraint("outcome = 'completed' OR result IS NULL", name="result_of_completed"),
    sa.CheckConstraint("outcome = 'completed' OR NOT undoable", name="undoable_is_completed"),
    # The order of completion of units that can be compensated; the hot path pays for it only where
    # it is needed.
    sa.Index(None, "run_id", "seq", postgresql_where=sa.text("undoable")),
    # Compensations that have failed; a branch may be called `compensate`, and has a position.
    sa.Index(
        "durable_journal_not_undone_idx",
        "run_id",
        postgresql_where=sa.text(
            "outcome = 'failed' AND position IS NULL AND unit LIKE '%#compensate'"
        ),
    ),
)

outbox = sa.Table(
    "durable_outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    # When it is due; a row that is due at once has no time.
    _time("available_at", nullable=True),
    # The order in which due rows are sent: rows that have these three in common are a lane (`due`).
    sa.Column("queue", sa.Text, nullable=False, server_default=""),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("crowd", sa.SmallInteger, nullable=False, server_default="0"),
    # Whether it is sent in a message of its own (`background.bundling`).
    sa.Column("single", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("args", sa.JSON, nullable=False),
    sa.Column("kwargs", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("run_id", sa.Uuid),
    sa.Column("token_id", sa.Uuid),
    sa.Column("fence", sa.Uuid),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_error", sa.Text),
    sa.CheckConstraint("(token_id IS NULL) = (fence IS NULL)", name="hint_has_a_fence"),
    sa.Index(
        "durable_outbox_due_idx",
        "queue",
        "priority",
        "crowd",
        "id",
        postgresql_where=sa.text("available_at IS NULL"),
    ),
    sa.Index(None, "available_at", postgresql_where=sa.text("available_at IS NOT NULL")),
    sa.Index(None, "token_id"),
)

inbox = sa.Table(
    "durable_inbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("run_id", sa.Uuid, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("payload", sa.JSON),
    sa.Column("key", sa.Text),
    sa.Column("consumed_by", sa.Uuid),
    # Why the token that has taken the signal goes on waiting: its data does not fit.
    sa.Column("refused", sa.Text),
    # The trace of whoever has sent it.
    sa.Column("trace", sa.JSON),
    _time("created_at", default=True),
    sa.UniqueConstraint("run_id", "name", "key"),
    sa.CheckConstraint("kind IN ('signal', 'command')", name="kind"),
    sa.Index(None, "run_id", "kind", "name", "id", postgresql_where=sa.text("consumed_by IS NULL")),
    sa.Index(
        "durable_inbox_refused_idx", "run_id", postgresql_where=sa.text("refused IS NOT NULL")
    ),
    sa.Index("durable_inbox_commands_idx", "run_id", postgresql_where=sa.text("kind = 'command'")),
)

pause = sa.Table(
    "durable_pause",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("run_id", sa.Uuid),
    sa.Column("workflow", sa.Text),
    sa.Column("version", sa.Integer),
    sa.Column("step", sa.Text),
    sa.Column("reason", sa.Text),
    _time("paused_at", default=True),
    sa.CheckConstraint("num_nonnulls(run_id, workflow, step) > 0", name="is_of_something"),
    sa.CheckConstraint("run_id IS NULL OR workflow IS NULL", name="run_has_its_workflow"),
    sa.CheckConstraint("version IS NULL OR workflow IS NOT NULL", name="version_of_a_workflow"),
    # Whoever pauses what is paused changes nothing.
    sa.Index(
        "durable_pause_what_idx",
        sa.text("coalesce(run_id::text, '')"),
        sa.text("coalesce(workflow, '')"),
        sa.text("coalesce(version, 0)"),
        sa.text("coalesce(step, '')"),
        unique=True,
    ),
    sa.Index(None, "run_id"),
)
"""Runs, workflows, versions and steps of which no further unit begins."""

action = sa.Table(
    "durable_action",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    _time("at", default=True),
    sa.Column("name", sa.Text, nullable=False),
    # Who has done it, as the command line, a page or the caller's code says.
    sa.Column("actor", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("run_id", sa.Uuid),
    sa.Column("workflow", sa.Text),
    sa.Column("version", sa.Integer),
    # The unit, step or signal that it was done to.
    sa.Column("what", sa.Text),
    sa.Index(None, "run_id", "id", postgresql_where=sa.text("run_id IS NOT NULL")),
    sa.Index(None, "id", postgresql_where=sa.text("run_id IS NULL")),
)
"""What people have done to runs, steps and workflows; written in the transaction that does it."""

metric = sa.Table(
    "durable_metric",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("labels", JSONB, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
)
"""What processes have counted, summed up; a row for each series (`core.metrics`)."""

worker = sa.Table(
    "durable_worker",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("node_id", sa.Uuid, nullable=False),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("pool", sa.Text, nullable=False),
    # How many messages it executes at once.
    sa.Column("slots", sa.Integer, nullable=False, server_default="1"),
    sa.Column("queues", JSONB, nullable=False),
    sa.Column("knows", JSONB, nullable=False, server_default="{}"),
    sa.Column("lock_number", sa.Integer),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("server_started_at"),
    _time("started_at", default=True),
    _time("expires_at"),
    sa.Column("ttl", sa.Double, nullable=False, server_default="30"),
    _time("ended_at", nullable=True),
    sa.Index("durable_worker_live_idx", "id", postgresql_where=sa.text("ended_at IS NULL")),
)

relay = sa.Table(
    "durable_relay",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    _time("started_at", default=True),
    _time("seen_at", default=True),
    # What keeps it from publishing.
    sa.Column("outage", sa.Text),
    _time("outage_since", nullable=True),
)
"""The relays; they are there for those who ask why a run stands, and for nothing else."""

leftover = sa.Table(
    "durable_leftover",
    metadata,
    sa.Column("run_id", sa.Uuid, primary_key=True),
    _time("pruned_at", default=True),
)
"""Runs that are deleted, and of which child runs or journal rows may be left (`pruning`)."""

definition = sa.Table(
    "durable_definition",
    metadata,
    sa.Column("workflow", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("plan", JSONB, nullable=False),
    _time("stored_at", default=True),
    # What a start in SQL takes from the settings of the app that has stored the plan.
    sa.Column("queue", sa.Text, nullable=False, server_default="durable"),
    sa.Column("max_payload_bytes", sa.Integer, nullable=False, server_default="1048576"),
)

recovery = sa.Table(
    "durable_recovery",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("reached", sa.Uuid),
    _time("looked_at", nullable=True),
    sa.Column("paces", JSONB, nullable=False, server_default="{}"),
    _time("next_at"),
    # When a relay may prune again.
    _time("prune_at", nullable=True),
    sa.Column("schema_id", sa.Uuid, nullable=False, server_default=sa.func.gen_random_uuid()),
    sa.CheckConstraint("id = 1", name="only_row"),
)
"""The leases of the relays' scan and of their pruning, how far the scan has come, and how long
hints wait in each queue: one row, made when needed.

`schema_id` tells this schema from every other.
"""

lock_numbers = sa.Sequence(
    "durable_lock_number",
    metadata=metadata,
    start=1,
    cycle=True,
    maxvalue=2**31 - 1,
    data_type=sa.Integer,
)
"""Numbers of worker locks; two live workers never share one."""
