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
  ) AS has_commands
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
