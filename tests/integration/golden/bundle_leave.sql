-- Branches of one parent have ended and leave; the parent counts them once.
-- Executed by celery_durable.store.bundle.committing.commit.

WITH locked AS (
  SELECT
    in_order.id AS id,
    in_order.unit AS unit,
    in_order.attempt AS attempt,
    in_order.n AS n,
    in_order.node AS node,
    in_order.started_at AS started_at,
    in_order.result AS result,
    in_order.undoable AS undoable,
    in_order.part AS part,
    in_order.position AS position,
    in_order.input AS input,
    row.ctid AS ctid
  FROM (
    SELECT
      given.id AS id,
      given.unit AS unit,
      given.attempt AS attempt,
      given.n AS n,
      given.node AS node,
      given.started_at AS started_at,
      given.result AS result,
      given.undoable AS undoable,
      given.part AS part,
      given.position AS position,
      given.input AS input
    FROM (
      SELECT
        document.id AS id,
        document.unit AS unit,
        document.attempt AS attempt,
        document.n AS n,
        document.node AS node,
        document.started_at AS started_at,
        document.result AS result,
        document.undoable AS undoable,
        document.part AS part,
        document.position AS position,
        document.input AS input
      FROM json_to_recordset(:given::varchar::json) AS document(id UUID, unit TEXT, attempt INT, n INT, node TEXT, started_at TIMESTAMPTZ, result JSON, undoable BOOLEAN, part TEXT, position INT, input JSON)
      WHERE
        document.id BETWEEN '00000000-0000-0000-0000-000000000000'::uuid AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
    ) AS given
    ORDER BY
      given.id
  ) AS in_order
  JOIN LATERAL (
    SELECT
      held.ctid AS ctid
    FROM durable_token AS held
    WHERE
      held.id = in_order.id
      AND held.fence = :held_fence::uuid
      AND held.claimed_by = :worker::uuid
      AND held.flags = 0
      AND held.wait IS NULL
      AND held.unit = in_order.unit
      AND held.attempt = in_order.attempt
    FOR UPDATE SKIP LOCKED
  ) AS row
    ON TRUE
), left_now AS (
  DELETE FROM durable_token USING locked
  WHERE
    durable_token.ctid = locked.ctid AND durable_token.parent_id = :parent::uuid
  RETURNING
    durable_token.id, durable_token.run_id, durable_token.parent_id,
    durable_token.node, durable_token.queue, durable_token.priority,
    durable_token.time_limit, durable_token.single
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    worker, started_at, part, position, input
  )
  SELECT
    left_now.run_id,
    locked.unit,
    locked.node,
    'completed' AS outcome,
    locked.undoable,
    locked.attempt,
    coalesce(locked.result, 'null'::json) AS result,
    :worker::uuid,
    locked.started_at,
    locked.part,
    locked.position,
    locked.input
  FROM left_now
  JOIN locked
    ON left_now.id = locked.id
  WHERE
    TRUE
  ORDER BY
    locked.n
), joined AS (
  UPDATE durable_token SET
    remaining = (durable_token.remaining - gone.n),
    opened = least(
      durable_token.total,
      durable_token.opened + CASE
        WHEN (durable_token.flags <> 0)
        THEN 0
        WHEN (
          (durable_token.total - durable_token.remaining) + gone.n >= durable_token.opened
        )
        THEN greatest(
          (
            (durable_token.total - durable_token.remaining) + gone.n
          ) / :chunk::int - (durable_token.total - durable_token.remaining) / :chunk::int,
          1
        ) * :chunk::int
        ELSE (
          (
            (durable_token.total - durable_token.remaining) + gone.n
          ) / :chunk::int - (durable_token.total - durable_token.remaining) / :chunk::int
        ) * :chunk::int
      END
    ),
    hinted_at = CASE
      WHEN (durable_token.remaining - gone.n = 0)
      THEN clock_timestamp()
      ELSE durable_token.hinted_at
    END,
    look_at = CASE
      WHEN (durable_token.remaining - gone.n = 0)
      THEN clock_timestamp() + INTERVAL '10 SECONDS'
      ELSE durable_token.look_at
    END
  FROM (
    SELECT
      count(*) AS n
    FROM left_now
  ) AS gone
  WHERE
    durable_token.id = :parent::uuid AND gone.n > 0
  RETURNING
    durable_token.id, durable_token.run_id, durable_token.unit,
    durable_token.rollback, durable_token.wake_at, durable_token.crashes,
    durable_token.queue, durable_token.priority, durable_token.time_limit,
    durable_token.single, durable_token.fence, durable_token.remaining,
    durable_token.opened, gone.n
), taken AS (
  DELETE FROM durable_item USING joined
  WHERE
    durable_item.token_id = joined.id
    AND durable_item.position BETWEEN ((joined.opened - joined.n) - :chunk::int) - :chunk::int AND joined.opened - 1
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
    one.run_id,
    one.parent_id,
    one.node,
    concat(one.node, '#', taken.position) AS unit,
    taken.position,
    taken.input,
    one.queue,
    one.priority,
    one.time_limit,
    one.single,
    GEN_RANDOM_UUID() AS fence
  FROM (
    SELECT
      left_now.id AS id,
      left_now.run_id AS run_id,
      left_now.parent_id AS parent_id,
      left_now.node AS node,
      left_now.queue AS queue,
      left_now.priority AS priority,
      left_now.time_limit AS time_limit,
      left_now.single AS single
    FROM left_now
    LIMIT 1
  ) AS one
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
  left_now.id,
  clock_timestamp() AS now,
  (
    SELECT
      durable_worker.draining
    FROM durable_worker
    WHERE
      durable_worker.id = :worker::uuid
  ) AS draining,
  FALSE AS has_commands,
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
FROM left_now
