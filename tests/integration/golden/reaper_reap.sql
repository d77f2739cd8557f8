-- A reaper takes the claim of a dead worker away, and puts a hint for the token.
-- Executed by celery_durable.store.reaping.reap.

WITH freed AS (
  UPDATE durable_token SET
    crashes = (durable_token.crashes + :counts::int),
    flags = (
      durable_token.flags | CASE WHEN (:timed_out AND durable_token.wait IS NULL) THEN 4 ELSE 0 END
    ),
    since = clock_timestamp(),
    wake_at = CASE
      WHEN (durable_token.wait IS NULL)
      THEN CASE WHEN (durable_token.wake_at > clock_timestamp()) THEN durable_token.wake_at END
      ELSE durable_token.wake_at
    END,
    fence = :new_fence::uuid,
    claimed_by = NULL,
    deadline_at = NULL,
    hinted_at = clock_timestamp(),
    hints = 0,
    look_at = (clock_timestamp() + INTERVAL '10 SECONDS')
  WHERE
    durable_token.id = (
      SELECT
        durable_token.id
      FROM durable_token
      WHERE
        durable_token.id = :token_id::uuid
        AND durable_token.fence = :old_fence::uuid
        AND durable_token.claimed_by = :holder::uuid
      FOR UPDATE SKIP LOCKED
    )
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
    freed.run_id,
    freed.id AS token_id,
    freed.fence,
    CASE WHEN (freed.rollback IS NULL) THEN 'durable.advance' ELSE 'durable.compensate' END AS task,
    json_build_array(freed.id) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', freed.queue,
        'priority', freed.priority,
        'soft_time_limit', freed.time_limit,
        'time_limit', freed.time_limit + 5.0,
        'shadow', concat(durable_run.workflow, '.', freed.unit)
      )
    ) AS options,
    freed.queue,
    coalesce(freed.priority, 0) AS priority,
    freed.single OR freed.crashes > 0 OR freed.time_limit IS NOT NULL AS single,
    CASE WHEN (freed.wake_at > clock_timestamp()) THEN freed.wake_at END AS available_at
  FROM freed
  JOIN durable_run
    ON durable_run.id = freed.run_id
)
SELECT
  freed.id
FROM freed
