-- A relay looks what is due in each lane, among the rows it has not seen.
-- Executed by celery_durable.store.due.look.

SELECT
  (
    SELECT
      json_agg(json_build_array(lanes.queue, lanes.priority, lanes.crowd, lanes.anon_1, lanes.anon_2)) AS json_agg_1
    FROM (
      SELECT
        durable_outbox.queue AS queue,
        durable_outbox.priority AS priority,
        durable_outbox.crowd AS crowd,
        min(durable_outbox.id) FILTER(WHERE
          durable_outbox.available_at IS NULL) AS anon_1,
        max(durable_outbox.id) FILTER(WHERE
          durable_outbox.available_at IS NULL) AS anon_2
      FROM durable_outbox
      WHERE
        durable_outbox.id > :after::bigint
      GROUP BY
        durable_outbox.queue,
        durable_outbox.priority,
        durable_outbox.crowd
      HAVING
        bool_or(durable_outbox.available_at IS NULL)
    ) AS lanes
  )::text AS lanes,
  (
    SELECT
      EXTRACT(EPOCH FROM durable_outbox.available_at - clock_timestamp()) AS anon_3
    FROM durable_outbox
    WHERE
      durable_outbox.available_at > CURRENT_TIMESTAMP - :back::interval
    ORDER BY
      durable_outbox.available_at
    LIMIT 1
  ) AS seconds_to_next,
  (
    SELECT
      durable_outbox.id
    FROM durable_outbox
    WHERE
      durable_outbox.id > :after::bigint
    ORDER BY
      durable_outbox.id DESC
    LIMIT 1
  ) AS newest
