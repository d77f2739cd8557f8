-- A token parks for a signal; a hint is put for the time at which its wait ends.
-- Executed by celery_durable.store.commit.statement.commit.

WITH held AS (
  UPDATE durable_token SET
    node = :node::varchar,
    unit = :unit::varchar,
    attempt = :attempt::int,
    crashes = :crashes::int,
    flags = :flags::int,
    rollback = :rollback::varchar,
    failures = :failures::varchar::json,
    part = :part::varchar,
    position = :position::int,
    wait = :wait::varchar,
    awaits = :awaits::varchar,
    child_run_id = :child_run_id::uuid,
    waiting_since = CASE WHEN (:wait::varchar IS NOT NULL) THEN clock_timestamp() END,
    assignees = :assignees::varchar::jsonb,
    since = clock_timestamp(),
    wake_at = (clock_timestamp() + :delay::interval),
    remaining = NULL,
    failed = NULL,
    total = NULL,
    opened = NULL,
    input = :input::varchar::json,
    snapshot = :snapshot::varchar::json,
    answer = :answer::varchar::json,
    progress = NULL,
    queue = :queue::varchar,
    priority = :priority::int,
    time_limit = :time_limit,
    single = :single,
    claimed_by = NULL,
    deadline_at = NULL,
    hinted_at = clock_timestamp(),
    hints = 0,
    look_at = (clock_timestamp() + INTERVAL '10 SECONDS')
  WHERE
    durable_token.id = :token_id::uuid
    AND durable_token.fence = :held_fence::uuid
    AND durable_token.claimed_by = :worker::uuid
    AND durable_token.unit = :held_unit::varchar
    AND durable_token.attempt = :held_attempt::int
    AND durable_token.flags = :seen_flags::int
    AND durable_token.wait IS NOT DISTINCT FROM :held_wait::varchar
  RETURNING
    durable_token.id, durable_token.run_id, durable_token.node,
    durable_token.unit, durable_token.attempt, durable_token.crashes,
    durable_token.flags, durable_token.rollback, durable_token.failures,
    durable_token.parent_id, durable_token.part, durable_token.position,
    durable_token.wait, durable_token.awaits, durable_token.child_run_id,
    durable_token.waiting_since, durable_token.assignees,
    durable_token.since, durable_token.wake_at, durable_token.remaining,
    durable_token.failed, durable_token.total, durable_token.opened,
    durable_token.input, durable_token.snapshot, durable_token.answer,
    durable_token.progress, durable_token.queue, durable_token.priority,
    durable_token.time_limit, durable_token.single, durable_token.fence,
    durable_token.claimed_by, durable_token.begun, durable_token.first_claim,
    durable_token.deadline_at, durable_token.hinted_at,
    durable_token.hints, durable_token.look_at
), hinted AS (
  INSERT INTO durable_outbox (
    run_id, token_id, fence, task, args, options, queue,
    priority, single, available_at
  )
  SELECT
    held.run_id,
    held.id AS token_id,
    held.fence,
    CASE WHEN (held.rollback IS NULL) THEN 'durable.advance' ELSE 'durable.compensate' END AS task,
    json_build_array(held.id) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', held.queue,
        'priority', held.priority,
        'soft_time_limit', held.time_limit,
        'time_limit', held.time_limit + 5.0,
        'shadow', concat(:workflow::varchar, '.', held.unit)
      )
    ) AS options,
    held.queue,
    coalesce(held.priority, 0) AS priority,
    held.single OR held.crashes > 0 OR held.time_limit IS NOT NULL AS single,
    CASE WHEN (held.wake_at > clock_timestamp()) THEN held.wake_at END AS available_at
  FROM held
)
SELECT
  clock_timestamp() AS now,
  (
    SELECT
      durable_worker.draining
    FROM durable_worker
    WHERE
      durable_worker.id = :worker::uuid
  ) AS draining,
  EXISTS(
    SELECT
      *
    FROM durable_inbox
    WHERE
      durable_inbox.run_id = held.run_id
      AND durable_inbox.kind = 'command'
      AND durable_inbox.consumed_by IS NULL
  ) AS has_commands
FROM held
