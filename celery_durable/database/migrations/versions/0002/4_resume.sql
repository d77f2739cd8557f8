-- Sends the run a signal. Returns 'stored' (until the run consumes it), 'duplicate' (the key has
-- been seen under this name) or 'refused' (the run has ended).
CREATE FUNCTION {schema}.durable_resume(run uuid, signal text, data json, key text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, {schema}, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found_run record;
    message bigint;
BEGIN
    PERFORM durable_check_given('run', durable_resume.run IS NOT NULL, 'Pass the id of a run.');
    PERFORM durable_check_given('signal', durable_resume.signal IS NOT NULL,
        'Pass the name of the signal that the run waits for.');
    PERFORM durable_check_given('data', durable_resume.data IS NOT NULL,
        'A signal without data takes ''null''::json.');
    PERFORM durable_check_text('signal', durable_resume.signal, 500, 1610);
    PERFORM durable_check_text('key', durable_resume.key, 500, 1000);

    SELECT run.workflow, run.version, run.finished_at, definition.plan,
        coalesce(definition.max_payload_bytes, 1048576) AS max_payload_bytes
    INTO found_run
    FROM durable_run AS run LEFT JOIN durable_definition AS definition
        ON definition.workflow = run.workflow AND definition.version = run.version
    WHERE run.id = durable_resume.run;
    PERFORM durable_check_found(durable_resume.run, FOUND);
    PERFORM durable_check_payload(
        format('The data of %s', durable_resume.signal),
        durable_resume.data,
        found_run.max_payload_bytes
    );

    INSERT INTO durable_inbox (run_id, kind, name, payload, key)
    SELECT id, 'signal', durable_resume.signal, durable_resume.data, durable_resume.key
    FROM durable_run WHERE id = durable_resume.run AND finished_at IS NULL
    ON CONFLICT (run_id, name, key) DO NOTHING
    RETURNING id INTO message;
    IF message IS NULL THEN
        SELECT finished_at INTO found_run.finished_at
        FROM durable_run WHERE id = durable_resume.run;
        RETURN CASE WHEN found_run.finished_at IS NULL THEN 'duplicate' ELSE 'refused' END;
    END IF;

    -- Those that wait for it, and those that may do so before this transaction commits: branches
    -- that are claimed or soon will be, and the run's first token wherever it is.
    PERFORM durable_hint(array_agg(token.id)) FROM (
        (SELECT id FROM durable_token
            WHERE run_id = durable_resume.run AND awaits = durable_resume.signal
            ORDER BY waiting_since LIMIT 20)
        UNION ALL
        (SELECT id FROM durable_token
            WHERE run_id = durable_resume.run AND awaits IS DISTINCT FROM durable_resume.signal
                AND (parent_id IS NULL OR claimed_by IS NOT NULL))
        UNION ALL
        (SELECT id FROM durable_token
            WHERE run_id = durable_resume.run AND claimed_by IS NULL AND parent_id IS NOT NULL
                AND wait IS NULL LIMIT 20)
    ) AS token;

    -- A step may suspend for a signal of its own name, or of any other.
    IF found_run.plan IS NOT NULL AND NOT EXISTS (
        SELECT FROM durable_token
        WHERE run_id = durable_resume.run AND awaits = durable_resume.signal
    ) AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(found_run.plan -> 'nodes') AS node
        WHERE coalesce(
            node ->> 'signal' = durable_resume.signal,
            node ->> 'name' = split_part(durable_resume.signal, '#', 1)
        )
    ) THEN
        RAISE WARNING 'No node of % version % waits for the signal %',
            found_run.workflow, found_run.version, quote_literal(durable_resume.signal)
            USING HINT = 'It is kept in case a step suspends for it.';
    END IF;
    RETURN 'stored';
END
$$;
