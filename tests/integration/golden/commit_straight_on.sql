-- A step has ended, and the worker goes straight on with the next one.
-- Executed by celery_durable.store.commit.statement.commit.

WITH held AS (
  UPDATE durable_token SET
    node = :node::varchar,
    unit = :unit::varchar,
    attempt = 1,
    crashes = 0,
    since = clock_timestamp(),
    wake_at = NULL,
    progress = NULL
  WHERE
    durable_token.id = :token_id::uuid
    AND durable_token.fence = :held_fence::uuid
    AND durable_token.claimed_by = :worker::uuid
    AND durable_token.unit = :held_unit::varchar
    AND durable_token.attempt = :held_attempt::int
    AND durable_token.flags = 0
    AND durable_token.wait IS NULL
  RETURNING durable_token.id, durable_token.run_id
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    worker, started_at
  )
  SELECT
    held.run_id,
    :held_unit::varchar AS unit,
    :record_node_0::varchar AS node,
    'completed' AS outcome,
    :undoable_0 AS undoable,
    :held_attempt::int AS attempt,
    :result_0::varchar::json AS result,
    :worker::uuid,
    :started_at_0::timestamptz AS started_at
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
  ) AS has_commands,
  (
    SELECT
      EXISTS(
        SELECT
          1
        FROM durable_pause
      ) AS anon_8
  ) AS is_anything_paused
FROM held
