-- A worker releases a claim with nothing done; a hint is put for whoever comes next.
-- Executed by celery_durable.store.tokens.release.

WITH released AS (
  UPDATE durable_token SET
    since = clock_timestamp(),
    wake_at = CASE
      WHEN (durable_token.wait IS NULL)
      THEN greatest(
        CASE WHEN (durable_token.wake_at > clock_timestamp()) THEN durable_token.wake_at END,
        clock_timestamp() + :delay::interval
      )
      ELSE durable_token.wake_at
    END,
    claimed_by = NULL,
    begun = (durable_token.begun AND NOT :is_first),
    deadline_at = NULL,
    hinted_at = clock_timestamp(),
    hints = 0,
    look_at = (clock_timestamp() + INTERVAL '10 SECONDS')
  WHERE
    durable_token.id = :token_id::uuid
    AND durable_token.fence = :held_fence::uuid
    AND durable_token.claimed_by = :worker::uuid
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
    clock_timestamp() + :delay::interval AS available_at
  FROM released
  JOIN durable_run
    ON durable_run.id = released.run_id
)
SELECT
  released.id
FROM released
