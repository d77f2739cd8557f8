-- A token that has waited for a signal consumes it, and the worker goes straight on.
-- Executed by celery_durable.store.commit.statement.commit.

WITH signal AS (
  SELECT
    durable_inbox.id AS id,
    durable_inbox.name AS name
  FROM durable_inbox
  WHERE
    durable_inbox.id = :message::bigint AND durable_inbox.consumed_by IS NULL
  FOR UPDATE
), held AS (
  UPDATE durable_token SET
    node = :node::varchar,
    unit = :unit::varchar,
    attempt = :attempt::int,
    crashes = :crashes::int,
    flags = :flags::int,
    rollback = :rollback::varchar,
    failures = :failures::varchar::json,
    part = :part::varchar,
    position = :position::int,
    wait = :wait::varchar,
    awaits = :awaits::varchar,
    child_run_id = :child_run_id::uuid,
    waiting_since = CASE WHEN (:wait::varchar IS NOT NULL) THEN clock_timestamp() END,
    assignees = :assignees::varchar::jsonb,
    since = clock_timestamp(),
    wake_at = (clock_timestamp() + :delay::interval),
    remaining = NULL,
    failed = NULL,
    total = NULL,
    opened = NULL,
    input = :input::varchar::json,
    snapshot = :snapshot::varchar::json,
    answer = :answer::varchar::json,
    progress = NULL
  WHERE
    durable_token.id = :token_id::uuid
    AND durable_token.fence = :held_fence::uuid
    AND durable_token.claimed_by = :worker::uuid
    AND durable_token.unit = :held_unit::varchar
    AND durable_token.attempt = :held_attempt::int
    AND durable_token.flags = :seen_flags::int
    AND durable_token.wait IS NOT DISTINCT FROM :held_wait::varchar
    AND (
      EXISTS(
        SELECT
          signal.id
        FROM signal
      )
    )
  RETURNING durable_token.id, durable_token.run_id
), recorded AS (
  INSERT INTO durable_journal (
    run_id, unit, node, outcome, undoable, attempt, result,
    error, failures, worker, started_at
  )
  SELECT
    held.run_id,
    :record_unit_0::varchar AS unit,
    :record_node_0::varchar AS node,
    :outcome_0::varchar AS outcome,
    :undoable_0 AS undoable,
    :record_attempt_0::int AS attempt,
    :result_0::varchar::json AS result,
    :error_0::varchar::json AS error,
    :record_failures_0::varchar::json AS failures,
    :worker::uuid,
    :started_at_0::timestamptz AS started_at
  FROM held
), consumed AS (
  UPDATE durable_inbox SET consumed_by = held.id
  FROM held
  WHERE
    durable_inbox.id = :message::bigint
), next_waiting AS (
  SELECT
    durable_token.id AS id,
    durable_token.run_id AS run_id,
    durable_token.node AS node,
    durable_token.unit AS unit,
    durable_token.attempt AS attempt,
    durable_token.crashes AS crashes,
    durable_token.flags AS flags,
    durable_token.rollback AS rollback,
    durable_token.failures AS failures,
    durable_token.parent_id AS parent_id,
    durable_token.part AS part,
    durable_token.position AS position,
    durable_token.wait AS wait,
    durable_token.awaits AS awaits,
    durable_token.child_run_id AS child_run_id,
    durable_token.waiting_since AS waiting_since,
    durable_token.assignees AS assignees,
    durable_token.since AS since,
    durable_token.wake_at AS wake_at,
    durable_token.remaining AS remaining,
    durable_token.failed AS failed,
    durable_token.total AS total,
    durable_token.opened AS opened,
    durable_token.input AS input,
    durable_token.snapshot AS snapshot,
    durable_token.answer AS answer,
    durable_token.progress AS progress,
    durable_token.queue AS queue,
    durable_token.priority AS priority,
    durable_token.time_limit AS time_limit,
    durable_token.single AS single,
    durable_token.fence AS fence,
    durable_token.claimed_by AS claimed_by,
    durable_token.begun AS begun,
    durable_token.first_claim AS first_claim,
    durable_token.deadline_at AS deadline_at,
    durable_token.hinted_at AS hinted_at,
    durable_token.hints AS hints,
    durable_token.look_at AS look_at
  FROM durable_token
  JOIN held
    ON held.run_id = durable_token.run_id
  WHERE
    durable_token.awaits = (
      SELECT
        signal.name
      FROM signal
    )
    AND durable_token.id <> held.id
    AND (
      EXISTS(
        SELECT
          1
        FROM durable_inbox
        WHERE
          durable_inbox.run_id = held.run_id
          AND durable_inbox.kind = 'signal'
          AND durable_inbox.name = (
            SELECT
              signal.name
            FROM signal
          )
          AND durable_inbox.consumed_by IS NULL
          AND durable_inbox.id <> :message::bigint
        LIMIT ALL
        OFFSET 0
      )
    )
  ORDER BY
    durable_token.waiting_since
  LIMIT 1
), next_told AS (
  INSERT INTO durable_outbox (
    run_id, token_id, fence, task, args, options, queue,
    priority, single, available_at
  )
  SELECT
    next_waiting.run_id,
    next_waiting.id AS token_id,
    next_waiting.fence,
    CASE WHEN (next_waiting.rollback IS NULL) THEN 'durable.advance' ELSE 'durable.compensate' END AS task,
    json_build_array(next_waiting.id) AS args,
    json_strip_nulls(
      json_build_object(
        'queue', next_waiting.queue,
        'priority', next_waiting.priority,
        'soft_time_limit', next_waiting.time_limit,
        'time_limit', next_waiting.time_limit + 5.0,
        'shadow', concat(durable_run.workflow, '.', next_waiting.unit)
      )
    ) AS options,
    next_waiting.queue,
    coalesce(next_waiting.priority, 0) AS priority,
    next_waiting.single OR next_waiting.crashes > 0 OR next_waiting.time_limit IS NOT NULL AS single,
    NULL AS available_at
  FROM next_waiting
  JOIN durable_run
    ON durable_run.id = next_waiting.run_id
), cleared AS (
  DELETE FROM durable_outbox
  WHERE
    durable_outbox.id = ANY(
      array((
        SELECT
          unneeded.id
        FROM held
        JOIN LATERAL (
          SELECT
            durable_outbox.id AS id
          FROM durable_outbox
          WHERE
            durable_outbox.token_id = held.id AND durable_outbox.available_at > clock_timestamp()
          LIMIT ALL
          OFFSET 0
          FOR UPDATE OF durable_outbox SKIP LOCKED
        ) AS unneeded
          ON TRUE
      ))
    )
)
SELECT
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
  (
    SELECT
      EXISTS(
        SELECT
          1
        FROM durable_pause
      ) AS anon_14
  ) AS is_anything_paused
FROM held
