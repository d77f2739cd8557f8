-- Raises for a run that is not there.
CREATE FUNCTION {schema}.durable_check_found(run uuid, is_found boolean) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT is_found THEN
        RAISE EXCEPTION USING
            ERRCODE = 'no_data_found',
            MESSAGE = format('No run has the id %s', run),
            HINT = 'It has been deleted, was never started, or is in another schema.';
    END IF;
END
$$;

-- Asks the run to end; a run that has ended stays as it is.
CREATE FUNCTION {schema}.durable_cancel(run uuid, compensate boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, {schema}, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    found_run record;
BEGIN
    PERFORM durable_check_given('run', durable_cancel.run IS NOT NULL, 'Pass the id of a run.');
    PERFORM durable_check_given('compensate', durable_cancel.compensate IS NOT NULL,
        'true undoes what has completed, false does not.');
    SELECT finished_at INTO found_run FROM durable_run WHERE id = durable_cancel.run;
    PERFORM durable_check_found(durable_cancel.run, FOUND);
    IF found_run.finished_at IS NOT NULL THEN
        RETURN;
    END IF;

    INSERT INTO durable_inbox (run_id, kind, name, payload)
    VALUES (
        durable_cancel.run,
        'command',
        'cancel',
        format('{"compensate": %s, "reason": null}', durable_cancel.compensate::text)::json
    );
    PERFORM durable_hint(array_agg(id))
    FROM durable_token WHERE run_id = durable_cancel.run AND parent_id IS NULL;
END
$$;
