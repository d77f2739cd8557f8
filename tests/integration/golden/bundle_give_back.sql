-- A worker gives back what has not begun; each token gets a message of its own.
-- Executed by celery_durable.store.bundle.claiming.release.

WITH locked AS (
  SELECT
    in_order.id AS id,
    in_order.is_first AS is_first,
    row.ctid AS ctid
  FROM (
    SELECT
      given.id AS id,
      given.is_first AS is_first
    FROM (
      SELECT
        document.id AS id,
        document.is_first AS is_first
      FROM json_to_recordset(:given::varchar::json) AS document(id UUID, is_first BOOLEAN)
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
      held.id = in_order.id AND held.fence = :held_fence::uuid AND held.claimed_by = :worker::uuid
    FOR UPDATE SKIP LOCKED
  ) AS row
    ON TRUE
), released AS (
  UPDATE durable_token SET
    since = clock_timestamp(),
    single = :single,
    claimed_by = NULL,
    begun = (durable_token.begun AND NOT locked.is_first),
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
    durable_token.single, durable_token.fence
), hinted AS (
  INSERT INTO durable_outbox (
    run_id, token_id, fence, task, args, options, queue,
    priority, single, available_at
  )
  SELECT
    released.run_id,
    released.id AS token_id,
    released.fence,
    CASE WHEN (released.rollback IS NULL) THEN 'durable.advance' ELSE 'durable.compensate' END AS task,
    json_build_array(released.id) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', released.queue,
        'priority', released.priority,
        'soft_time_limit', released.time_limit,
        'time_limit', released.time_limit + 5.0,
        'shadow', concat(durable_run.workflow, '.', released.unit)
      )
    ) AS options,
    released.queue,
    coalesce(released.priority, 0) AS priority,
    released.single OR released.crashes > 0 OR released.time_limit IS NOT NULL AS single,
    NULL AS available_at
  FROM released
  JOIN durable_run
    ON durable_run.id = released.run_id
)
SELECT
  released.id
FROM released
