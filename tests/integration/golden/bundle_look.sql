-- A worker looks again at claims whose units have not begun for a while.
-- Executed by celery_durable.store.bundle.claiming.look.

SELECT
  held.id,
  held.flags,
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
  CASE
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
  END AS is_paused
FROM (
  SELECT
    document.id AS id
  FROM json_to_recordset(:given::varchar::json) AS document(id UUID)
  WHERE
    document.id BETWEEN '00000000-0000-0000-0000-000000000000'::uuid AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
) AS given
JOIN durable_token AS held
  ON held.id = given.id
WHERE
  held.fence = :held_fence::uuid
  AND held.claimed_by = :worker::uuid
  AND (
    EXISTS(
      SELECT
        *
      FROM durable_worker
      WHERE
        durable_worker.id = :worker::uuid AND durable_worker.ended_at IS NULL
    )
  )
