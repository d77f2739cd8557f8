-- Puts a hint, due at once, for each of the tokens, and wakes a relay.
--
-- A NOTIFY takes a lock on the whole database while its transaction commits. One open transaction
-- at a time sends it, so that the commits of others do not queue for that lock; what those write is
-- found by polling.
CREATE FUNCTION {schema}.durable_hint(tokens uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, {schema}, pg_temp
AS $$
BEGIN
    INSERT INTO durable_outbox
        (run_id, token_id, fence, task, args, options, queue, priority, single)
    SELECT
        token.run_id,
        token.id,
        token.fence,
        CASE WHEN token.rollback IS NULL THEN 'durable.advance' ELSE 'durable.compensate' END,
        json_build_array(token.id),
        json_strip_nulls(json_build_object(
            'queue', token.queue,
            'priority', token.priority,
            'soft_time_limit', token.time_limit,
            'time_limit', token.time_limit + 5.0,
            'shadow', concat(run.workflow, '.', token.unit)
        )),
        token.queue,
        coalesce(token.priority, 0),
        token.single OR token.crashes > 0 OR token.time_limit IS NOT NULL
    FROM durable_token AS token JOIN durable_run AS run ON run.id = token.run_id
    WHERE token.id = ANY (tokens);

    IF pg_try_advisory_xact_lock(hashtext({channel}), 1) THEN
        PERFORM pg_notify({channel}, '');
    END IF;
END
$$;
