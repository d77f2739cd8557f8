-- A UUID version 7: 48 bits of Unix milliseconds, 74 random bits (RFC 9562, section 5.7).
-- The time is laid over a version 4, whose version becomes 7 by two bits.
CREATE FUNCTION {schema}.durable_uuid7() RETURNS uuid
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(
        set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(
                int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3
            )
            FROM 1 FOR 6
        ), 52, 1), 53, 1),
        'hex'
    )::uuid
$$;

-- Raises for an argument that is NULL.
CREATE FUNCTION {schema}.durable_check_given(name text, is_given boolean, hint text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT is_given THEN
        RAISE EXCEPTION USING
            ERRCODE = 'null_value_not_allowed',
            MESSAGE = format('%s is NULL', name),
            HINT = hint;
    END IF;
END
$$;

-- Raises for a text that is empty or too long: an entry of an index has room for so many bytes.
CREATE FUNCTION {schema}.durable_check_text(name text, value text, longest int, most_bytes int)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF value = '' OR char_length(value) > longest OR octet_length(value) > most_bytes THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s is %s characters long', name, char_length(value)),
            HINT = format('It takes 1 to %s characters, %s bytes at most.', longest, most_bytes);
    END IF;
END
$$;

-- Raises for a payload that is too long, or that no worker could read: jsonb takes no NUL either.
CREATE FUNCTION {schema}.durable_check_payload(what text, payload json, most_bytes int)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF octet_length(payload::text) > most_bytes THEN
        RAISE EXCEPTION USING
            ERRCODE = 'program_limit_exceeded',
            MESSAGE = format(
                '%s is %s bytes of JSON, the limit is %s (durable_max_payload_bytes)',
                what, octet_length(payload::text), most_bytes
            ),
            HINT = 'Store it elsewhere and pass a reference.';
    END IF;
    IF jsonb_path_exists(payload::jsonb, 'strict $.**{100} ? (@.type() == "array" || @.type() == "object")') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s is nested deeper than 100 levels', what),
            HINT = 'Store it elsewhere and pass a reference.';
    END IF;
    IF jsonb_path_exists(
        payload::jsonb,
        'strict $.** ? (@.type() == "number" && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308))'
    ) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'numeric_value_out_of_range',
            MESSAGE = format('%s has a number that Python takes for infinity', what),
            HINT = 'Pass it as a string.';
    END IF;
END
$$;
