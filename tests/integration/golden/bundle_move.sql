-- Units of several runs have ended, and the worker goes straight on with the next ones.
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
      given.to_unit AS to_unit
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
        document.to_unit AS to_unit
      FROM json_to_recordset(:given::varchar::json) AS document(id UUID, unit TEXT, attempt INT, n INT, node TEXT, started_at TIMESTAMPTZ, result JSON, undoable BOOLEAN, to_node TEXT, to_unit TEXT)
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
    progress = NULL
  FROM locked
  WHERE
    durable_token.ctid = locked.ctid
  RETURNING durable_token.id, durable_token.run_id
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
  ) AS has_commands,
  (
    SELECT
      EXISTS(
        SELECT
          1
        FROM durable_pause
      ) AS anon_2
  ) AS is_anything_paused
FROM moved
