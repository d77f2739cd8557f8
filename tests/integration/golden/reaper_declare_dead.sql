-- A reaper declares workers dead that still seem to be, and have not renewed since.
-- Executed by celery_durable.store.dead_workers.declare_dead.

WITH still_doomed AS (
  SELECT
    durable_worker.id AS id,
    doomed.seconds AS seconds
  FROM durable_worker
  JOIN json_to_recordset(:doomed::varchar::json) AS doomed(id UUID, expires_at TIMESTAMPTZ, seconds DOUBLE PRECISION, is_silent BOOLEAN)
    ON durable_worker.id = doomed.id
    AND durable_worker.expires_at = doomed.expires_at
    AND durable_worker.ended_at IS NULL
    AND CASE
      WHEN doomed.is_silent
      THEN TRUE
      ELSE CASE
        WHEN (durable_worker.lock_number IS NULL)
        THEN FALSE
        WHEN (
          durable_worker.server_started_at <> pg_postmaster_start_time()
        )
        THEN FALSE
        ELSE pg_try_advisory_xact_lock(hashtext(:lock_space::varchar), durable_worker.lock_number)
      END
    END
  FOR UPDATE OF durable_worker SKIP LOCKED
)
UPDATE durable_worker SET
  ended_at = (
    clock_timestamp() - still_doomed.seconds * INTERVAL '1 SECOND'
  )
FROM still_doomed
WHERE
  durable_worker.id = still_doomed.id
RETURNING
  durable_worker.id, durable_worker.hostname, durable_worker.pid,
  durable_worker.draining
