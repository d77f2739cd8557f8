"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        sa.schema.CreateSequence(
            sa.Sequence(
                "durable_lock_number",
                start=1,
                maxvalue=2**31 - 1,
                cycle=True,
                data_type=sa.Integer,
                schema="durable",
            )
        )
    )
    op.create_table(
        "durable_definition",
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("plan", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "stored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("workflow", "version", name=op.f("durable_definition_pkey")),
        schema="durable",
    )
    op.create_table(
        "durable_pause",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("workflow", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "paused_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "num_nonnulls(run_id, workflow, step) > 0", name=op.f("durable_pause_is_of_something")
        ),
        sa.CheckConstraint(
            "run_id IS NULL OR workflow IS NULL", name=op.f("durable_pause_run_has_its_workflow")
        ),
        sa.CheckConstraint(
            "version IS NULL OR workflow IS NOT NULL",
            name=op.f("durable_pause_version_of_a_workflow"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_pause_pkey")),
        schema="durable",
    )
    op.create_index(
        "durable_pause_what_idx",
        "durable_pause",
        [
            sa.text("coalesce(run_id::text, '')"),
            sa.text("coalesce(workflow, '')"),
            sa.text("coalesce(version, 0)"),
            sa.text("coalesce(step, '')"),
        ],
        unique=True,
        schema="durable",
    )
    op.create_index(
        op.f("durable_pause_run_id_idx"),
        "durable_pause",
        ["run_id"],
        unique=False,
        schema="durable",
    )
    op.create_table(
        "durable_inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("consumed_by", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("kind IN ('signal', 'command')", name=op.f("durable_inbox_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_inbox_pkey")),
        sa.UniqueConstraint(
            "run_id", "name", "key", name=op.f("durable_inbox_run_id_name_key_key")
        ),
        schema="durable",
    )
    op.create_index(
        "durable_inbox_commands_idx",
        "durable_inbox",
        ["run_id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("kind = 'command'"),
    )
    op.create_index(
        op.f("durable_inbox_run_id_kind_name_id_idx"),
        "durable_inbox",
        ["run_id", "kind", "name", "id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("consumed_by IS NULL"),
    )
    op.create_table(
        "durable_item",
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", "position", name=op.f("durable_item_pkey")),
        schema="durable",
    )
    op.create_table(
        "durable_journal",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Text(collation="C"), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("undoable", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("gathers", sa.Text(), nullable=True),
        sa.Column("child_run_id", sa.Uuid(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("failures", sa.JSON(), nullable=True),
        sa.Column("worker", sa.Uuid(), nullable=True),
        sa.Column("inherited_from", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "gathers IN ('branches', 'items', 'iteration', 'child')",
            name=op.f("durable_journal_gathers"),
        ),
        sa.CheckConstraint(
            "gathers IS DISTINCT FROM 'child' OR child_run_id IS NOT NULL",
            name=op.f("durable_journal_child_has_a_run"),
        ),
        sa.CheckConstraint(
            "outcome <> 'failed' OR error IS NOT NULL",
            name=op.f("durable_journal_failed_has_an_error"),
        ),
        sa.CheckConstraint(
            "outcome = 'completed' OR NOT undoable",
            name=op.f("durable_journal_undoable_is_completed"),
        ),
        sa.CheckConstraint(
            "outcome = 'completed' OR result IS NULL",
            name=op.f("durable_journal_result_of_completed"),
        ),
        sa.CheckConstraint(
            "outcome IN ('completed', 'failed', 'cancelled')", name=op.f("durable_journal_outcome")
        ),
        sa.CheckConstraint(
            "gathers IS NULL OR result IS NULL", name=op.f("durable_journal_gathered_has_no_result")
        ),
        sa.PrimaryKeyConstraint("run_id", "unit", name=op.f("durable_journal_pkey")),
        schema="durable",
    )
    op.create_index(
        "durable_journal_not_undone_idx",
        "durable_journal",
        ["run_id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text(
            "outcome = 'failed' AND position IS NULL AND unit LIKE '%#compensate'"
        ),
    )
    op.create_index(
        op.f("durable_journal_run_id_seq_idx"),
        "durable_journal",
        ["run_id", "seq"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("undoable"),
    )
    op.create_table(
        "durable_leftover",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column(
            "pruned_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("durable_leftover_pkey")),
        schema="durable",
    )
    op.create_table(
        "durable_outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queue", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("crowd", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("single", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("kwargs", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("fence", sa.Uuid(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(token_id IS NULL) = (fence IS NULL)", name=op.f("durable_outbox_hint_has_a_fence")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_outbox_pkey")),
        schema="durable",
    )
    op.create_index(
        op.f("durable_outbox_available_at_idx"),
        "durable_outbox",
        ["available_at"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("available_at IS NOT NULL"),
    )
    op.create_index(
        "durable_outbox_due_idx",
        "durable_outbox",
        ["queue", "priority", "crowd", "id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("available_at IS NULL"),
    )
    op.create_index(
        op.f("durable_outbox_token_id_idx"),
        "durable_outbox",
        ["token_id"],
        unique=False,
        schema="durable",
    )
    op.create_table(
        "durable_recovery",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("reached", sa.Uuid(), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "paces", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False
        ),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("prune_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "schema_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False
        ),
        sa.CheckConstraint("id = 1", name=op.f("durable_recovery_only_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_recovery_pkey")),
        schema="durable",
    )
    op.create_table(
        "durable_relay",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("outage", sa.Text(), nullable=True),
        sa.Column("outage_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_relay_pkey")),
        schema="durable",
    )
    op.create_table(
        "durable_run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("priority", sa.SmallInteger(), nullable=True),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column(
            "tags", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False
        ),
        sa.Column("parent_token", sa.Uuid(), nullable=True),
        sa.Column("parent_run_id", sa.Uuid(), nullable=True),
        sa.Column("root_run_id", sa.Uuid(), nullable=True),
        sa.Column("depth", sa.Integer(), server_default="0", nullable=False),
        sa.Column("forked_from", sa.Uuid(), nullable=True),
        sa.Column("retried_as", sa.Uuid(), nullable=True),
        sa.Column("times_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))",
            name=op.f("durable_run_finished_has_a_time"),
        ),
        sa.CheckConstraint(
            "status <> 'failed' OR error IS NOT NULL", name=op.f("durable_run_failed_has_an_error")
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'compensating', 'completed', 'failed', 'cancelled')",
            name=op.f("durable_run_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_run_pkey")),
        sa.UniqueConstraint("workflow", "key", name=op.f("durable_run_workflow_key_key")),
        schema="durable",
    )
    op.create_index(
        "durable_run_ended_idx",
        "durable_run",
        ["status", "finished_at", "id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("parent_run_id IS NULL AND finished_at IS NOT NULL"),
    )
    op.create_index(
        op.f("durable_run_forked_from_idx"),
        "durable_run",
        ["forked_from"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("forked_from IS NOT NULL"),
    )
    op.create_index(
        "durable_run_error_idx",
        "durable_run",
        [sa.literal_column("regexp_replace(error ->> 'type', '^.*[.]', '')"), "id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("error IS NOT NULL"),
    )
    op.create_index(
        "durable_run_deadline_idx",
        "durable_run",
        [sa.literal_column("least(times_out_at, expires_at)")],
        unique=False,
        schema="durable",
        postgresql_where=sa.text(
            "finished_at IS NULL AND cancel_requested_at IS NULL AND status <> 'compensating'"
            " AND least(times_out_at, expires_at) IS NOT NULL"
        ),
    )
    op.create_index(
        op.f("durable_run_parent_run_id_id_idx"),
        "durable_run",
        ["parent_run_id", "id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("parent_run_id IS NOT NULL"),
    )
    op.create_index(
        "durable_run_schedule_idx",
        "durable_run",
        ["workflow", sa.literal_column("(tags ->> 'schedule')")],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("finished_at IS NULL AND (tags ->> 'schedule') IS NOT NULL"),
    )
    op.create_index(
        op.f("durable_run_status_id_idx"),
        "durable_run",
        ["status", "id"],
        unique=False,
        schema="durable",
    )
    op.create_index(
        op.f("durable_run_tags_idx"),
        "durable_run",
        ["tags"],
        unique=False,
        schema="durable",
        postgresql_using="gin",
    )
    op.create_index(
        op.f("durable_run_workflow_id_idx"),
        "durable_run",
        ["workflow", "id"],
        unique=False,
        schema="durable",
    )
    op.create_table(
        "durable_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("flags", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rollback", sa.Text(), nullable=True),
        sa.Column("failures", sa.JSON(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("part", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("wait", sa.Text(), nullable=True),
        sa.Column("awaits", sa.Text(), nullable=True),
        sa.Column("child_run_id", sa.Uuid(), nullable=True),
        sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "since",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("wake_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("remaining", sa.Integer(), nullable=True),
        sa.Column("failed", sa.Integer(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("opened", sa.Integer(), nullable=True),
        sa.Column("input", sa.JSON(), nullable=True),
        sa.Column("snapshot", sa.JSON(), nullable=True),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=True),
        sa.Column("time_limit", sa.Double(), nullable=True),
        sa.Column("single", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("fence", sa.Uuid(), nullable=False),
        sa.Column("claimed_by", sa.Uuid(), nullable=True),
        sa.Column("begun", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("first_claim", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "hinted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("hints", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "look_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp() + interval '10 seconds'"),
            nullable=True,
        ),
        sa.CheckConstraint(
            "coalesce(wait = 'child', false) = (child_run_id IS NOT NULL)",
            name=op.f("durable_token_child_has_a_run"),
        ),
        sa.CheckConstraint(
            "coalesce(wait = 'signal', false) = (awaits IS NOT NULL)",
            name=op.f("durable_token_signal_has_a_name"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(remaining, failed, total, opened) = CASE WHEN wait = 'branches' THEN 4"
            " ELSE 0 END",
            name=op.f("durable_token_fork_has_a_gate"),
        ),
        sa.CheckConstraint(
            "rollback IN ('failed', 'cancelled')", name=op.f("durable_token_rollback")
        ),
        sa.CheckConstraint(
            "wait IN ('signal', 'timer', 'child', 'branches', 'operator')",
            name=op.f("durable_token_wait"),
        ),
        sa.CheckConstraint(
            "wake_at IS NOT NULL OR wait IS DISTINCT FROM 'timer'",
            name=op.f("durable_token_timer_has_a_time"),
        ),
        sa.CheckConstraint(
            "(waiting_since IS NOT NULL) = (wait IS NOT NULL)",
            name=op.f("durable_token_waits_since_a_time"),
        ),
        sa.CheckConstraint(
            "attempt >= 1 AND crashes >= 0 AND hints >= 0", name=op.f("durable_token_counts")
        ),
        sa.CheckConstraint(
            "remaining BETWEEN 0 AND total AND failed >= 0 AND opened <= total",
            name=op.f("durable_token_gate"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_token_pkey")),
        schema="durable",
    )
    op.create_index(
        op.f("durable_token_claimed_by_idx"),
        "durable_token",
        ["claimed_by"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("claimed_by IS NOT NULL"),
    )
    op.create_index(
        "durable_token_failing_idx",
        "durable_token",
        ["run_id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("failures IS NOT NULL"),
    )
    op.create_index(
        "durable_token_first_idx",
        "durable_token",
        ["run_id"],
        unique=True,
        schema="durable",
        postgresql_where=sa.text("parent_id IS NULL"),
    )
    op.create_index(
        op.f("durable_token_look_at_idx"),
        "durable_token",
        ["look_at"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("claimed_by IS NULL AND look_at IS NOT NULL"),
    )
    op.create_index(
        op.f("durable_token_parent_id_idx"),
        "durable_token",
        ["parent_id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        op.f("durable_token_run_id_awaits_idx"),
        "durable_token",
        ["run_id", "awaits"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("awaits IS NOT NULL"),
    )
    op.create_index(
        op.f("durable_token_run_id_idx"),
        "durable_token",
        ["run_id"],
        unique=False,
        schema="durable",
    )
    op.create_table(
        "durable_worker",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("node_id", sa.Uuid(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), server_default="1", nullable=False),
        sa.Column("queues", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "knows",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("lock_number", sa.Integer(), nullable=True),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("server_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ttl", sa.Double(), server_default="30", nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("durable_worker_pkey")),
        schema="durable",
    )
    op.create_index(
        "durable_worker_live_idx",
        "durable_worker",
        ["id"],
        unique=False,
        schema="durable",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    # Room for the next row version on the same page, so that a step is a HOT update.
    set_storage("durable_token", "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02")
    # The head of the outbox is deleted all the time; dead index entries there slow every look.
    set_storage(
        "durable_outbox",
        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,"
        " autovacuum_vacuum_cost_delay = 0",
    )


def set_storage(table: str, parameters: str) -> None:
    """Set storage parameters; no Alembic operation or SQLAlchemy 2.0 construct does."""
    schema = op.get_context().opts["version_table_schema"]
    # Not by SQLAlchemy's preparer: `execute` doubles a percent sign once more. It escapes colons.
    quoted = schema.replace('"', '""').replace(":", r"\:")
    op.execute(f'ALTER TABLE "{quoted}".{table} SET ({parameters})')


def downgrade() -> None:
    for table in (
        "durable_definition",
        "durable_inbox",
        "durable_item",
        "durable_journal",
        "durable_leftover",
        "durable_outbox",
        "durable_pause",
        "durable_recovery",
        "durable_relay",
        "durable_run",
        "durable_token",
        "durable_worker",
    ):
        op.drop_table(table, schema="durable")
    op.execute(sa.schema.DropSequence(sa.Sequence("durable_lock_number", schema="durable")))
