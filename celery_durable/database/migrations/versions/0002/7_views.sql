CREATE VIEW {schema}.durable_workflow_run AS
SELECT
  durable_run.id AS id,
  durable_run.workflow AS workflow,
  durable_run.version AS version,
  CASE
    WHEN (durable_run.status <> 'running')
    THEN durable_run.status
    WHEN (
      EXISTS(
        SELECT
          1
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id
          AND (
            durable_token.claimed_by IS NOT NULL
            OR (
              durable_token.wait IS NULL OR durable_token.wait = 'branches' AND durable_token.remaining = 0
            )
            AND NOT (
              durable_token.claimed_by IS NULL
              AND durable_token.flags = 0
              AND CASE
                WHEN (
                  SELECT
                    EXISTS(
                      SELECT
                        1
                      FROM {schema}.durable_pause
                    ) AS anon_1
                )
                THEN EXISTS(
                  SELECT
                    *
                  FROM {schema}.durable_run AS paused_run, {schema}.durable_pause
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
          )
        LIMIT ALL
        OFFSET 0
      )
    )
    THEN 'running'
    WHEN (
      EXISTS(
        SELECT
          1
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id
          AND (
            durable_token.wait = 'operator'
            OR durable_token.claimed_by IS NULL
            AND durable_token.flags = 0
            AND CASE
              WHEN (
                SELECT
                  EXISTS(
                    SELECT
                      1
                    FROM {schema}.durable_pause
                  ) AS anon_1
              )
              THEN EXISTS(
                SELECT
                  *
                FROM {schema}.durable_run AS paused_run, {schema}.durable_pause
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
        LIMIT ALL
        OFFSET 0
      )
    )
    THEN 'paused'
    WHEN (
      EXISTS(
        SELECT
          1
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id AND durable_token.wait IN ('signal', 'child')
        LIMIT ALL
        OFFSET 0
      )
    )
    THEN 'suspended'
    WHEN (
      EXISTS(
        SELECT
          1
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id AND durable_token.wait = 'timer'
        LIMIT ALL
        OFFSET 0
      )
    )
    THEN 'sleeping'
    ELSE 'running'
  END AS status,
  durable_run.status AS stored_status,
  durable_run.key AS key,
  durable_run.tags AS tags,
  coalesce(
    (
      SELECT
        json_agg(found.name ORDER BY found.since, found.name) AS json_agg_1
      FROM (
        SELECT
          durable_token.node AS name,
          min(durable_token.waiting_since) AS since
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id AND durable_token.node IS NOT NULL
        GROUP BY
          durable_token.node
      ) AS found
    ),
    '[]'::json
  ) AS current,
  (
    SELECT
      durable_token.since
    FROM {schema}.durable_token
    WHERE
      durable_token.run_id = durable_run.id AND durable_token.parent_id IS NULL
  ) AS since,
  coalesce(
    (
      SELECT
        json_agg(found.name ORDER BY found.since, found.name) AS json_agg_2
      FROM (
        SELECT
          durable_token.awaits AS name,
          min(durable_token.waiting_since) AS since
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id AND durable_token.awaits IS NOT NULL
        GROUP BY
          durable_token.awaits
      ) AS found
    ),
    '[]'::json
  ) AS awaiting,
  (
    SELECT
      min(durable_token.wake_at) AS min_1
    FROM {schema}.durable_token
    WHERE
      durable_token.run_id = durable_run.id AND durable_token.wake_at > statement_timestamp()
  ) AS wake_at,
  durable_run.input AS input,
  CASE WHEN (durable_run.status = 'completed') THEN {schema}.durable_result(durable_run.id) END AS result,
  CASE
    WHEN (durable_run.error IS NOT NULL)
    THEN durable_run.error
    WHEN (durable_run.status = 'cancelled')
    THEN json_build_object(
      'type', 'RunCancelled',
      'message', coalesce(durable_run.cancel_reason, ''),
      'traceback', '',
      'unit', ''
    )
  END AS error,
  durable_run.parent_run_id AS parent_run_id,
  durable_run.forked_from AS forked_from,
  durable_run.retried_as AS retried_as,
  coalesce(
    durable_run.cancel_requested_at,
    (
      SELECT
        durable_inbox.created_at
      FROM {schema}.durable_inbox
      WHERE
        durable_inbox.run_id = durable_run.id
        AND durable_inbox.kind = 'command'
        AND durable_inbox.name = 'cancel'
      ORDER BY
        durable_inbox.id
      LIMIT 1
    )
  ) AS cancel_requested_at,
  coalesce(
    durable_run.cancel_reason,
    (
      SELECT
        durable_inbox.payload ->> 'reason' AS anon_2
      FROM {schema}.durable_inbox
      WHERE
        durable_inbox.run_id = durable_run.id
        AND durable_inbox.kind = 'command'
        AND durable_inbox.name = 'cancel'
      ORDER BY
        durable_inbox.id
      LIMIT 1
    )
  ) AS cancel_reason,
  durable_run.times_out_at AS times_out_at,
  CASE
    WHEN (
      EXISTS(
        SELECT
          1
        FROM {schema}.durable_token
        WHERE
          durable_token.run_id = durable_run.id
          AND durable_token.parent_id IS NULL
          AND NOT durable_token.begun
        LIMIT ALL
        OFFSET 0
      )
    )
    THEN durable_run.expires_at
  END AS expires_at,
  durable_run.created_at AS created_at,
  durable_run.started_at AS started_at,
  durable_run.updated_at AS updated_at,
  durable_run.finished_at AS finished_at
FROM {schema}.durable_run;

CREATE VIEW {schema}.durable_workflow_unit AS
SELECT
  durable_journal.run_id,
  durable_journal.unit,
  durable_journal.seq,
  durable_journal.node,
  durable_journal.part AS branch,
  durable_journal.position,
  durable_journal.outcome,
  durable_journal.attempt,
  CASE
    WHEN (durable_journal.inherited_from IS NULL)
    THEN durable_journal.result
    ELSE (
      SELECT
        executed.result
      FROM {schema}.durable_journal AS executed
      WHERE
        executed.run_id = durable_journal.inherited_from AND executed.unit = durable_journal.unit
    )
  END AS result,
  durable_journal.error,
  coalesce(durable_journal.failures, '[]'::json) AS failures,
  durable_journal.worker,
  durable_journal.child_run_id,
  durable_journal.started_at,
  durable_journal.finished_at
FROM {schema}.durable_journal;
