-- What a start in SQL takes from the settings of the app that has stored the plan.
ALTER TABLE {schema}.durable_definition
    ADD COLUMN queue text NOT NULL DEFAULT 'durable',
    ADD COLUMN max_payload_bytes integer NOT NULL DEFAULT 1048576;
