-- The last step of a run has ended, and the run with it.
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
), changed AS (
  UPDATE durable_run SET
    status = :status::varchar,
    result = coalesce(:run_result::varchar::json, durable_run.result),
    error = coalesce(:run_error::varchar::json, durable_run.error),
    updated_at = clock_timestamp(),
    finished_at = CASE WHEN :finishes THEN clock_timestamp() ELSE NULL END
  FROM held
  WHERE
    durable_run.id = held.run_id
), emptied AS (
  DELETE FROM durable_inbox USING held
  WHERE
    durable_inbox.run_id = held.run_id AND durable_inbox.kind = 'signal'
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
