-- A reaper looks at the workers that have not ended, and tries their locks.
-- Executed by celery_durable.store.dead_workers.look.

SELECT
  durable_worker.id,
  durable_worker.node_id,
  durable_worker.expires_at,
  durable_worker.ttl,
  CASE
    WHEN (durable_worker.lock_number IS NULL)
    THEN FALSE
    WHEN (
      durable_worker.server_started_at <> pg_postmaster_start_time()
    )
    THEN FALSE
    ELSE pg_try_advisory_xact_lock(hashtext(:lock_space::varchar), durable_worker.lock_number)
  END AS is_unlocked
FROM durable_worker
WHERE
  durable_worker.ended_at IS NULL
