-- A relay locks due rows of one lane, the oldest first, to publish and delete them.
-- Executed by celery_durable.store.due.take.

WITH bounded AS (
  SELECT
    set_config('idle_in_transaction_session_timeout', '30s', TRUE) AS value
)
SELECT
  durable_outbox.id,
  durable_outbox.task,
  durable_outbox.args::text AS args,
  durable_outbox.kwargs::text AS kwargs,
  durable_outbox.options::text AS options,
  durable_outbox.tries,
  durable_outbox.run_id,
  durable_outbox.token_id,
  durable_outbox.single
FROM durable_outbox
WHERE
  durable_outbox.available_at IS NULL
  AND durable_outbox.queue = :queue::varchar
  AND durable_outbox.priority = :priority::int
  AND durable_outbox.crowd = :crowd::int
  AND durable_outbox.id > :after::bigint
  AND durable_outbox.id <= :until::bigint
  AND (
    SELECT
      bounded.value
    FROM bounded
  ) = '30s'
ORDER BY
  durable_outbox.id
LIMIT :batch::int
FOR UPDATE SKIP LOCKED
