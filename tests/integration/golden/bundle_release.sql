-- Units of several runs have ended; claims are released, and hints put for the next steps.
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
    in_order.to_node AS to_node,
    in_order.to_unit AS to_unit,
    in_order.workflow AS workflow,
    in_order.queue AS queue,
    in_order.priority AS priority,
    in_order.time_limit AS time_limit,
    in_order.single AS single,
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
      given.to_node AS to_node,
      given.to_unit AS to_unit,
      given.workflow AS workflow,
      given.queue AS queue,
      given.priority AS priority,
      given.time_limit AS time_limit,
      given.single AS single
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
        document.to_node AS to_node,
        document.to_unit AS to_unit,
        document.workflow AS workflow,
        document.queue AS queue,
        document.priority AS priority,
        document.time_limit AS time_limit,
        document.single AS single
      FROM json_to_recordset(:given::varchar::json) AS document(id UUID, unit TEXT, attempt INT, n INT, node TEXT, started_at TIMESTAMPTZ, result JSON, undoable BOOLEAN, to_node TEXT, to_unit TEXT, workflow TEXT, queue TEXT, priority SMALLINT, time_limit DOUBLE PRECISION, single BOOLEAN)
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
), moved AS (
  UPDATE durable_token SET
    node = locked.to_node,
    unit = locked.to_unit,
    attempt = 1,
    since = clock_timestamp(),
    wake_at = NULL,
    progress = NULL,
    queue = locked.queue,
    priority = locked.priority,
    time_limit = locked.time_limit,
    single = locked.single,
    claimed_by = NULL,
    deadline_at = NULL,
    hinted_at = clock_timestamp(),
    hints = 0,
    look_at = (clock_timestamp() + INTERVAL '10 SECONDS')
  FROM locked
  WHERE
    durable_token.ctid = locked.ctid
  RETURNING
    durable_token.id, durable_token.run_id, durable_token.unit,
    durable_token.rollback, durable_token.wake_at, durable_token.crashes,
    durable_token.queue, durable_token.priority, durable_token.time_limit,
    durable_token.single, durable_token.fence, locked.workflow
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    worker, started_at
  )
  SELECT
    moved.run_id,
    locked.unit,
    locked.node,
    'completed' AS outcome,
    locked.undoable,
    locked.attempt,
    coalesce(locked.result, 'null'::json) AS result,
    :worker::uuid,
    locked.started_at
  FROM moved
  JOIN locked
    ON moved.id = locked.id
  WHERE
    TRUE
  ORDER BY
    locked.n
), hinted AS (
  INSERT INTO durable_outbox (
    run_id, token_id, fence, task, args, options, queue,
    priority, single, available_at
  )
  SELECT
    moved.run_id,
    moved.id AS token_id,
    moved.fence,
    CASE WHEN (moved.rollback IS NULL) THEN 'durable.advance' ELSE 'durable.compensate' END AS task,
    json_build_array(moved.id) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', moved.queue,
        'priority', moved.priority,
        'soft_time_limit', moved.time_limit,
        'time_limit', moved.time_limit + 5.0,
        'shadow', concat(moved.workflow, '.', moved.unit)
      )
    ) AS options,
    moved.queue,
    coalesce(moved.priority, 0) AS priority,
    moved.single OR moved.crashes > 0 OR moved.time_limit IS NOT NULL AS single,
    CASE WHEN (moved.wake_at > clock_timestamp()) THEN moved.wake_at END AS available_at
  FROM moved
)
SELECT
  moved.id,
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
      durable_inbox.run_id = moved.run_id
      AND durable_inbox.kind = 'command'
      AND durable_inbox.consumed_by IS NULL
  ) AS has_commands
FROM moved
