-- A unit has been compensated, and the worker goes straight on: as commit_straight_on.
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
    since = clock_timestamp(),
    wake_at = (clock_timestamp() + :delay::interval),
    progress = NULL
  WHERE
    durable_token.id = :token_id::uuid
    AND durable_token.fence = :held_fence::uuid
    AND durable_token.claimed_by = :worker::uuid
    AND durable_token.unit = :held_unit::varchar
    AND durable_token.attempt = :held_attempt::int
    AND durable_token.flags = :seen_flags::int
    AND durable_token.wait IS NOT DISTINCT FROM :held_wait::varchar
  RETURNING durable_token.id, durable_token.run_id
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    error, failures, worker, started_at
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
      ) AS anon_11
  ) AS is_anything_paused
FROM held
