-- The result of a completed unit of a node, put together from the journal; of a unit that has
-- failed where failures are kept, its error.
CREATE FUNCTION {schema}.durable_unit_result(run uuid, unit text) RETURNS json
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, {schema}, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    entry record;
BEGIN
    SELECT journal.node, journal.outcome, journal.gathers, journal.child_run_id, journal.error,
        CASE WHEN journal.inherited_from IS NULL THEN journal.result ELSE (
            SELECT origin.result FROM durable_journal AS origin
            WHERE origin.run_id = journal.inherited_from AND origin.unit = journal.unit
        ) END AS result
    INTO entry
    FROM durable_journal AS journal
    WHERE journal.run_id = durable_unit_result.run AND journal.unit = durable_unit_result.unit;

    IF entry.outcome <> 'completed' THEN
        RETURN json_build_object('error', json_build_object(
            'type', entry.error -> 'type',
            'message', entry.error -> 'message',
            'unit', entry.error -> 'unit'
        ));
    END IF;
    IF entry.gathers IS NULL THEN
        RETURN entry.result;
    END IF;
    IF entry.gathers = 'child' THEN
        RETURN durable_result(entry.child_run_id);
    END IF;
    -- The units of a node are a range of the key: "#" is followed by "$".
    RETURN (
        SELECT CASE entry.gathers
            WHEN 'branches' THEN coalesce(
                json_object_agg(part, durable_unit_result(run_id, unit) ORDER BY position)
                    FILTER (WHERE entry.gathers = 'branches'), '{}')
            WHEN 'items' THEN coalesce(
                json_agg(durable_unit_result(run_id, unit) ORDER BY position)
                    FILTER (WHERE entry.gathers = 'items'), '[]')
            ELSE durable_unit_result(
                durable_unit_result.run, (array_agg(unit ORDER BY position DESC))[1])
        END
        FROM durable_journal
        WHERE run_id = durable_unit_result.run
            AND unit >= entry.node || '#' AND unit < entry.node || '$'
            AND (position IS NOT NULL OR part IS NOT NULL)
    );
END
$$;

-- The result of a run: the one that `.returns` made, or the results of its completed nodes by name.
CREATE FUNCTION {schema}.durable_result(run uuid) RETURNS json
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, {schema}, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN coalesce(
        (SELECT result FROM durable_run WHERE id = durable_result.run),
        (
            SELECT json_object_agg(node, durable_unit_result(run_id, unit) ORDER BY seq)
            FROM durable_journal
            WHERE run_id = durable_result.run AND unit = node AND outcome = 'completed'
        ),
        '{}'
    );
END
$$;
