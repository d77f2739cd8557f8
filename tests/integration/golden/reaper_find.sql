-- A reaper finds the tokens that no live worker executes.
-- Executed by celery_durable.store.reaping.find.

SELECT
  durable_token.id AS token_id,
  durable_token.run_id,
  durable_token.unit,
  durable_token.fence,
  durable_token.claimed_by AS worker,
  coalesce(NOT durable_worker.draining, TRUE)
  AND NOT coalesce(durable_token.deadline_at <= coalesce(durable_worker.ended_at, clock_timestamp()), FALSE) AS counts,
  coalesce(durable_token.deadline_at <= coalesce(durable_worker.ended_at, clock_timestamp()), FALSE) AS timed_out
FROM durable_token
LEFT OUTER JOIN durable_worker
  ON durable_worker.id = durable_token.claimed_by
WHERE
  durable_token.claimed_by IS NOT NULL
  AND (
    durable_worker.id IS NULL OR durable_worker.ended_at IS NOT NULL
  )
LIMIT :batch::int
