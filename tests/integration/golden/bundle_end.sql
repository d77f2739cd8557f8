-- The last steps of several runs have ended, and the runs with them.
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
    in_order.recorded AS recorded,
    in_order.run_result AS run_result,
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
      given.recorded AS recorded,
      given.run_result AS run_result
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
        document.recorded AS recorded,
        document.run_result AS run_result
      FROM json_to_recordset(:given::varchar::json) AS document(id UUID, unit TEXT, attempt INT, n INT, node TEXT, started_at TIMESTAMPTZ, result JSON, undoable BOOLEAN, recorded BOOLEAN, run_result JSON)
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
), ended AS (
  DELETE FROM durable_token USING locked
  WHERE
    durable_token.ctid = locked.ctid
  RETURNING
    durable_token.id, durable_token.run_id, locked.run_result
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    worker, started_at
  )
  SELECT
    ended.run_id,
    locked.unit,
    locked.node,
    'completed' AS outcome,
    locked.undoable,
    locked.attempt,
    coalesce(locked.result, 'null'::json) AS result,
    :worker::uuid,
    locked.started_at
  FROM ended
  JOIN locked
    ON ended.id = locked.id
  WHERE
    locked.recorded
  ORDER BY
    locked.n
), run_ended AS (
  UPDATE durable_run SET
    status = 'completed',
    result = coalesce(ended.run_result, durable_run.result),
    updated_at = clock_timestamp(),
    finished_at = clock_timestamp()
  FROM ended
  WHERE
    durable_run.id = ended.run_id
), emptied AS (
  DELETE FROM durable_inbox USING ended
  WHERE
    durable_inbox.run_id = ended.run_id AND durable_inbox.kind = 'signal'
)
SELECT
  ended.id,
  clock_timestamp() AS now,
  (
    SELECT
      durable_worker.draining
    FROM durable_worker
    WHERE
      durable_worker.id = :worker::uuid
  ) AS draining,
  FALSE AS has_commands
FROM ended
