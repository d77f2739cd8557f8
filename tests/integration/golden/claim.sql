-- A worker claims a token, and reads all it needs to execute its unit.
-- Executed by celery_durable.store.tokens.claim.

WITH quiet AS (
  SELECT
    set_config('synchronous_commit', 'off', TRUE) AS value
)
UPDATE durable_token SET
  since = clock_timestamp(),
  fence = :new_fence::uuid,
  claimed_by = :worker::uuid,
  begun = TRUE,
  first_claim = NOT durable_token.begun,
  deadline_at = CASE
    WHEN (durable_token.wait IS NULL)
    THEN clock_timestamp() + durable_token.time_limit * INTERVAL '1 SECOND'
  END
FROM durable_run, quiet
WHERE
  durable_token.id = :token_id::uuid
  AND durable_token.run_id = durable_run.id
  AND (
    durable_token.claimed_by IS NULL OR durable_token.fence = :new_fence::uuid
  )
  AND (
    durable_token.wait IS NULL
    AND (
      durable_token.wake_at IS NULL
      OR durable_token.flags <> 0
      OR durable_token.wake_at <= clock_timestamp()
    )
    OR durable_token.wait IN ('signal', 'timer')
    AND (
      durable_token.flags <> 0 OR durable_token.wake_at <= clock_timestamp()
    )
    OR durable_token.wait = 'signal'
    AND (
      EXISTS(
        SELECT
          1
        FROM durable_inbox
        WHERE
          durable_inbox.run_id = durable_token.run_id
          AND durable_inbox.kind = 'signal'
          AND durable_inbox.name = durable_token.awaits
          AND durable_inbox.consumed_by IS NULL
        LIMIT ALL
        OFFSET 0
      )
    )
    OR durable_token.wait = 'child'
    AND (
      EXISTS(
        SELECT
          1
        FROM durable_run AS child
        WHERE
          child.id = durable_token.child_run_id AND child.finished_at IS NOT NULL
        LIMIT ALL
        OFFSET 0
      )
    )
    OR durable_token.wait = 'branches'
    AND durable_token.remaining = 0
    OR durable_token.wait = 'operator'
    AND durable_token.flags <> 0
  )
  AND (
    durable_token.flags <> 0
    OR NOT CASE
      WHEN (
        SELECT
          EXISTS(
            SELECT
              1
            FROM durable_pause
          ) AS anon_1
      )
      THEN EXISTS(
        SELECT
          *
        FROM durable_run AS paused_run, durable_pause
        WHERE
          paused_run.id = durable_token.run_id
          AND (
            durable_pause.run_id IS NULL OR durable_pause.run_id = durable_token.run_id
          )
          AND (
            durable_pause.workflow IS NULL OR durable_pause.workflow = paused_run.workflow
          )
          AND (
            durable_pause.version IS NULL OR durable_pause.version = paused_run.version
          )
          AND (
            durable_pause.step IS NULL
            OR durable_pause.step = durable_token.node
            OR durable_pause.step = durable_token.part
          )
      )
      ELSE FALSE
    END
  )
  AND (
    durable_run.expires_at IS NULL
    OR durable_token.begun
    OR durable_token.flags <> 0
    OR durable_run.expires_at > clock_timestamp()
    OR durable_token.parent_id IS NOT NULL
    OR durable_token.rollback IS NOT NULL
  )
  AND (
    EXISTS(
      SELECT
        *
      FROM durable_worker
      WHERE
        durable_worker.id = :worker::uuid AND durable_worker.ended_at IS NULL
    )
  )
  AND quiet.value = 'off'
RETURNING
  durable_token.id, durable_token.run_id, durable_token.node,
  durable_token.unit, durable_token.attempt, durable_token.crashes,
  durable_token.flags, durable_token.rollback, durable_token.failures::text AS failures,
  durable_token.parent_id, durable_token.part, durable_token.position,
  durable_token.wait, durable_token.awaits, durable_token.child_run_id,
  durable_token.waiting_since, durable_token.remaining,
  durable_token.failed, durable_token.total, durable_token.input::text AS item,
  durable_token.snapshot::text AS snapshot, durable_token.answer::text AS answer,
  durable_token.queue, durable_token.priority AS token_priority,
  durable_token.time_limit, durable_token.first_claim,
  durable_run.workflow, durable_run.version, durable_run.status,
  durable_run.key, durable_run.priority, durable_run.tags,
  durable_run.input::text AS input, durable_run.error::text AS error,
  durable_run.parent_token, durable_run.root_run_id,
  durable_run.depth, durable_run.trace::text AS trace,
  clock_timestamp() AS now,
  EXTRACT(EPOCH FROM durable_token.wake_at - clock_timestamp()) AS due_in,
  EXTRACT(EPOCH FROM clock_timestamp() - durable_token.hinted_at) AS waited,
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
      durable_inbox.run_id = durable_token.run_id
      AND durable_inbox.kind = 'command'
      AND durable_inbox.consumed_by IS NULL
  ) AS has_commands
