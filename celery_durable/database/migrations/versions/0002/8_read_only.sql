-- Refuses to write to a view.
CREATE FUNCTION {schema}.durable_read_only() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('%s is a view to read; %s changes nothing there', TG_TABLE_NAME, TG_OP),
        HINT = 'Runs are changed by durable_start, durable_resume and durable_cancel in SQL, or by'
            ' start, resume, cancel, retry and the like in Python.';
END
$$;

-- Without the first, Postgres would write to the tables below a view that is so simple. The second is
-- called for a statement that finds no row, too.
CREATE TRIGGER durable_read_only_row INSTEAD OF INSERT OR UPDATE OR DELETE
    ON {schema}.durable_workflow_run FOR EACH ROW EXECUTE FUNCTION {schema}.durable_read_only();
CREATE TRIGGER durable_read_only BEFORE INSERT OR UPDATE OR DELETE
    ON {schema}.durable_workflow_run FOR EACH STATEMENT
    EXECUTE FUNCTION {schema}.durable_read_only();
CREATE TRIGGER durable_read_only_row INSTEAD OF INSERT OR UPDATE OR DELETE
    ON {schema}.durable_workflow_unit FOR EACH ROW EXECUTE FUNCTION {schema}.durable_read_only();
CREATE TRIGGER durable_read_only BEFORE INSERT OR UPDATE OR DELETE
    ON {schema}.durable_workflow_unit FOR EACH STATEMENT
    EXECUTE FUNCTION {schema}.durable_read_only();
