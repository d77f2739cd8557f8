-- A branch ends and leaves its fork; the next items are opened, or the parent is hinted.
-- Executed by celery_durable.store.commit.statement.commit.

WITH held AS (
  DELETE FROM durable_token
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
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    error, failures, worker, started_at, part, position,
    input, gathers, child_run_id
  )
  SELECT
    held.run_id,
    :record_unit_0::varchar AS unit,
    :record_node_0::varchar AS node,
    :outcome_0::varchar AS outcome,
    :undoable_0 AS undoable,
    :record_attempt_0::int AS attempt,
    :result_0::varchar::json AS result,
    :error_0::varchar::json AS error,
    :record_failures_0::varchar::json AS failures,
    :worker::uuid,
    :started_at_0::timestamptz AS started_at,
    :record_part_0::varchar AS part,
    :record_position_0::int AS position,
    :record_input_0::varchar::json AS input,
    :gathers_0::varchar AS gathers,
    :record_child_0::uuid AS child_run_id
  FROM held
), joined AS (
  UPDATE durable_token SET
    remaining = ((durable_token.remaining - 1) - gone.n),
    failed = (durable_token.failed + :failed::int),
    opened = least(
      durable_token.total,
      durable_token.opened + CASE
        WHEN (
          (
            (
              durable_token.total - ((durable_token.remaining - 1) - gone.n)
            ) % :chunk::int = 0
            OR durable_token.total - ((durable_token.remaining - 1) - gone.n) >= durable_token.opened
          )
          AND durable_token.flags = 0
        )
        THEN :chunk::int
        ELSE 0
      END
    ),
    hinted_at = CASE
      WHEN ((durable_token.remaining - 1) - gone.n = 0)
      THEN clock_timestamp()
      ELSE durable_token.hinted_at
    END,
    look_at = CASE
      WHEN ((durable_token.remaining - 1) - gone.n = 0)
      THEN clock_timestamp() + INTERVAL '10 SECONDS'
      ELSE durable_token.look_at
    END
  FROM held, (
      SELECT
        0 AS n
    ) AS gone
  WHERE
    durable_token.id = held.parent_id AND gone.n >= 0
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
), taken AS (
  DELETE FROM durable_item USING joined
  WHERE
    durable_item.token_id = joined.id
    AND durable_item.position BETWEEN joined.opened - :chunk::int AND joined.opened - 1
  RETURNING durable_item.position, durable_item.input
), parent_hinted AS (
  INSERT INTO durable_outbox (
    run_id, token_id, fence, task, args, options, queue,
    priority, single, available_at
  )
  SELECT
    joined.run_id,
    joined.id AS token_id,
    joined.fence,
    CASE WHEN (joined.rollback IS NULL) THEN 'durable.advance' ELSE 'durable.compensate' END AS task,
    json_build_array(joined.id) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', joined.queue,
        'priority', joined.priority,
        'soft_time_limit', joined.time_limit,
        'time_limit', joined.time_limit + 5.0,
        'shadow', concat(:workflow::varchar, '.', joined.unit)
      )
    ) AS options,
    joined.queue,
    coalesce(joined.priority, 0) AS priority,
    joined.single OR joined.crashes > 0 OR joined.time_limit IS NOT NULL AS single,
    CASE WHEN (joined.wake_at > clock_timestamp()) THEN joined.wake_at END AS available_at
  FROM joined
  WHERE
    joined.remaining = 0
), branches AS (
  INSERT INTO durable_token (
    id, run_id, parent_id, node, unit, position, input,
    queue, priority, time_limit, single, fence
  )
  SELECT
    GEN_RANDOM_UUID() AS id,
    held.run_id,
    held.parent_id,
    held.node,
    concat(held.node, '#', taken.position) AS unit,
    taken.position,
    taken.input,
    held.queue,
    held.priority,
    held.time_limit,
    held.single,
    GEN_RANDOM_UUID() AS fence
  FROM held
  JOIN taken
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
    0 AS crowd
  FROM branches
  GROUP BY
    branches.run_id,
    branches.node,
    branches.queue,
    branches.priority,
    branches.time_limit,
    branches.position / :chunk::int
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
  ) AS has_commands,
  (
    EXISTS(
      SELECT
        *
      FROM joined
      WHERE
        joined.remaining = 0
    )
  )
  OR (
    EXISTS(
      SELECT
        taken.position
      FROM taken
    )
  ) AS puts_hint
FROM held
