-- A token forks: its first branches are opened, with hints; other items wait for room.
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
    remaining = :total::int,
    failed = 0,
    total = :total::int,
    opened = :window::int,
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
), branches AS (
  INSERT INTO durable_token (
    id, run_id, parent_id, node, unit, part, position,
    input, queue, priority, time_limit, single, fence
  )
  SELECT
    GEN_RANDOM_UUID() AS id,
    held.run_id,
    held.id AS parent_id,
    held.node,
    branch.unit,
    branch.part,
    branch.position,
    CASE WHEN (branch.part IS NULL) THEN coalesce(branch.input, 'null'::json) ELSE branch.input END AS input,
    branch.queue,
    branch.priority,
    branch.time_limit,
    :branches_single AS single,
    GEN_RANDOM_UUID() AS fence
  FROM held
  JOIN json_to_recordset(:branches::varchar::json) AS branch(unit TEXT, part TEXT, position INT, input JSON, queue TEXT, priority SMALLINT, time_limit DOUBLE PRECISION)
    ON TRUE
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
), hinted_branches AS (
  INSERT INTO durable_outbox (
    run_id, token_id, fence, task, args, options, queue,
    priority, single, available_at, crowd
  )
  SELECT
    branches.run_id,
    (
      array_agg(branches.id ORDER BY branches.position)
    )[1::int + 0] AS token_id,
    (
      array_agg(branches.fence ORDER BY branches.position)
    )[1::int + 0] AS fence,
    'durable.advance' AS task,
    json_agg(branches.id ORDER BY branches.position) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', branches.queue,
        'priority', branches.priority,
        'soft_time_limit', branches.time_limit,
        'time_limit', branches.time_limit + 5.0,
        'shadow', concat(:workflow::varchar, '.', (
          array_agg(branches.unit ORDER BY branches.position)
        )[1::int + 0])
      )
    ) AS options,
    branches.queue,
    coalesce(branches.priority, 0) AS priority,
    bool_or(branches.single OR branches.crashes > 0 OR branches.time_limit IS NOT NULL) AS single,
    NULL AS available_at,
    floor(ln(CAST(min(branches.position) / :chunk::int + 1 AS DOUBLE PRECISION)) / CAST(ln(2) AS DECIMAL)) AS crowd
  FROM branches
  GROUP BY
    branches.run_id,
    branches.node,
    branches.queue,
    branches.priority,
    branches.time_limit,
    branches.position / :chunk::int
), items AS (
  INSERT INTO durable_item (
    token_id, position, input
  )
  SELECT
    held.id AS token_id,
    waiting.position,
    coalesce(waiting.input, 'null'::json) AS input
  FROM held
  JOIN json_to_recordset(:items::varchar::json) AS waiting(position INT, input JSON)
    ON TRUE
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
