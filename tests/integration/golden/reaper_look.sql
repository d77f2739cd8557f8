-- A reaper tries the locks of the workers that have not ended, and looks at claims.
-- Executed by celery_durable.store.watching.look.

SELECT
  (
    SELECT
      json_agg(json_build_array(signs.id, signs.node_id, signs.expires_at, signs.ttl, signs.is_unlocked)) AS json_agg_1
    FROM (
      SELECT
        durable_worker.id AS id,
        durable_worker.node_id AS node_id,
        durable_worker.expires_at AS expires_at,
        durable_worker.ttl AS ttl,
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
    ) AS signs
  )::text AS signs,
  (
    SELECT
      json_agg(
        json_build_array(
          orphaned.token_id,
          orphaned.run_id,
          orphaned.unit,
          orphaned.fence,
          orphaned.worker,
          orphaned.counts,
          orphaned.timed_out
        )
      ) AS json_agg_2
    FROM (
      SELECT
        durable_token.id AS token_id,
        durable_token.run_id AS run_id,
        durable_token.unit AS unit,
        durable_token.fence AS fence,
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
    ) AS orphaned
  )::text AS orphaned,
  (
    SELECT
      json_agg(
        json_build_array(
          limited.token_id,
          limited.run_id,
          limited.unit,
          limited.fence,
          limited.worker,
          limited.counts,
          limited.timed_out,
          limited."limit"
        )
      ) AS json_agg_3
    FROM (
      SELECT
        durable_token.id AS token_id,
        durable_token.run_id AS run_id,
        durable_token.unit AS unit,
        durable_token.fence AS fence,
        durable_token.claimed_by AS worker,
        FALSE AS counts,
        TRUE AS timed_out,
        durable_token.time_limit + CASE WHEN (durable_worker.pool = 'prefork') THEN 10.0 ELSE 0 END AS "limit"
      FROM durable_token
      JOIN durable_worker
        ON durable_worker.id = durable_token.claimed_by
      WHERE
        durable_token.claimed_by IS NOT NULL
        AND durable_token.deadline_at IS NOT NULL
        AND durable_worker.ended_at IS NULL
    ) AS limited
  )::text AS limited,
  (
    SELECT
      durable_token.claimed_by
    FROM durable_token
    WHERE
      durable_token.claimed_by IS NOT NULL
    ORDER BY
      durable_token.claimed_by
    LIMIT 1
  ) IS NOT NULL AS has_claims,
  (
    SELECT
      durable_run.id
    FROM durable_run
    WHERE
      durable_run.finished_at IS NULL
      AND durable_run.cancel_requested_at IS NULL
      AND durable_run.status <> 'compensating'
      AND least(durable_run.times_out_at, durable_run.expires_at) IS NOT NULL
      AND CURRENT_TIMESTAMP >= least(durable_run.times_out_at, durable_run.expires_at)
    ORDER BY
      least(durable_run.times_out_at, durable_run.expires_at)
    LIMIT 1
  ) IS NOT NULL AS has_overdue
