-- A worker claims the tokens of a message together, those that may share a process.
-- Executed by celery_durable.store.bundle.claiming.claim.

WITH locked AS (
  SELECT
    in_order.id AS id,
    row.ctid AS ctid
  FROM (
    SELECT
      given.id AS id
    FROM (
      SELECT
        document.id AS id
      FROM json_to_recordset(:given::varchar::json) AS document(id UUID)
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
      AND (
        held.fence = :new_fence::uuid
        OR held.claimed_by IS NULL
        AND held.wait IS NULL
        AND held.flags = 0
        AND (
          held.wake_at IS NULL OR held.wake_at <= clock_timestamp()
        )
        AND held.crashes = 0
        AND held.time_limit IS NULL
        AND NOT held.single
        AND NOT CASE
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
              paused_run.id = held.run_id
              AND (
                durable_pause.run_id IS NULL OR durable_pause.run_id = held.run_id
              )
              AND (
                durable_pause.workflow IS NULL OR durable_pause.workflow = paused_run.workflow
              )
              AND (
                durable_pause.version IS NULL OR durable_pause.version = paused_run.version
              )
              AND (
                durable_pause.step IS NULL OR durable_pause.step = held.node OR durable_pause.step = held.part
              )
          )
          ELSE FALSE
        END
      )
    FOR UPDATE SKIP LOCKED
  ) AS row
    ON TRUE
), quiet AS (
  SELECT
    set_config('synchronous_commit', 'off', TRUE) AS value
)
UPDATE durable_token SET
  since = clock_timestamp(),
  fence = :new_fence::uuid,
  claimed_by = :worker::uuid,
  begun = TRUE,
  first_claim = NOT durable_token.begun
FROM locked, durable_run, quiet
WHERE
  durable_token.ctid = locked.ctid
  AND durable_run.id = durable_token.run_id
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
