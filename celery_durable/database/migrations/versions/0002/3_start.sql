-- Starts a run of the newest stored version of the workflow, and returns its id. With a key that a
-- run of the workflow has, it returns the id of that run.
CREATE FUNCTION {schema}.durable_start(workflow text, input json, key text DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, {schema}, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    stored record;
    node jsonb;
    existing record;
    new_run uuid;
    new_token uuid := gen_random_uuid();
BEGIN
    PERFORM durable_check_given('workflow', durable_start.workflow IS NOT NULL,
        'Pass the name of a workflow.');
    PERFORM durable_check_given('input', durable_start.input IS NOT NULL,
        'A run without an input takes ''null''::json.');
    PERFORM durable_check_text('key', durable_start.key, 500, 1000);

    SELECT version, plan, queue, max_payload_bytes INTO stored
    FROM durable_definition AS definition
    WHERE definition.workflow = durable_start.workflow
    ORDER BY version DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('Unknown workflow %L', durable_start.workflow),
            HINT = format(
                'Its plan is stored when a worker that has its code starts. Stored are: %s.',
                (SELECT coalesce(string_agg(name, ', '), 'none') FROM (
                    SELECT DISTINCT workflow AS name FROM durable_definition ORDER BY 1 LIMIT 20
                ) AS known)
            );
    END IF;
    PERFORM durable_check_payload(
        format('The input of %s', durable_start.workflow),
        durable_start.input,
        stored.max_payload_bytes
    );

    -- The run that has the key may be deleted between the two statements.
    FOR look IN 1..3 LOOP
        INSERT INTO durable_run
            (id, workflow, version, status, key, input, times_out_at, expires_at, started_at)
        VALUES (
            durable_uuid7(),
            durable_start.workflow,
            stored.version,
            'running',
            durable_start.key,
            durable_start.input,
            clock_timestamp() + (stored.plan ->> 'timeout')::float8 * interval '1 second',
            clock_timestamp() + (stored.plan ->> 'expires')::float8 * interval '1 second',
            clock_timestamp()
        )
        ON CONFLICT (workflow, key) DO NOTHING
        RETURNING id INTO new_run;
        EXIT WHEN new_run IS NOT NULL;

        SELECT id, run.input::text INTO existing
        FROM durable_run AS run
        WHERE run.workflow = durable_start.workflow AND run.key = durable_start.key;
        IF FOUND THEN
            IF existing.input::jsonb <> durable_start.input::jsonb THEN
                RAISE WARNING 'Run % of % has the key % already, and another input',
                    existing.id, durable_start.workflow, quote_literal(durable_start.key)
                    USING HINT = 'It is returned as it is; the input of this start is not used.';
            END IF;
            RETURN existing.id;
        END IF;
    END LOOP;
    IF new_run IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'serialization_failure',
            MESSAGE = format('A run of %s with key %L exists, but this transaction cannot see it',
                durable_start.workflow, durable_start.key),
            HINT = 'Use READ COMMITTED, or repeat the transaction.';
    END IF;

    node := stored.plan -> 'nodes' -> 0;
    INSERT INTO durable_token
        (id, run_id, node, unit, position, queue, priority, time_limit, fence)
    VALUES (
        new_token,
        new_run,
        node ->> 'name',
        node ->> 'unit',
        CASE node ->> 'kind' WHEN 'loop' THEN 0 END,
        coalesce(node ->> 'queue', stored.queue),
        (node ->> 'priority')::smallint,
        (node ->> 'time_limit')::float8,
        gen_random_uuid()
    );
    PERFORM durable_hint(ARRAY[new_token]);
    RETURN new_run;
END
$$;
