"""What the role may do, and what it lacks."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa

from celery_durable.errors import ConfigurationError
from celery_durable.store.connection import Connection, Statement, one
from celery_durable.store.tables import lock_numbers, metadata

logger = logging.getLogger(__name__)

TABLES = [table.name for table in metadata.sorted_tables]

FUNCTIONS = (
    "pg_notify(text, text)",
    "pg_try_advisory_lock(integer, integer)",
    "pg_try_advisory_xact_lock(integer, integer)",
    "pg_postmaster_start_time()",
    "set_config(text, text, boolean)",
    "hashtext(text)",
)
"""Those that everybody may call, unless somebody has hardened the server."""

_ON_SCHEMA = Statement(
    sa.text(
        "SELECT quote_ident(current_user) AS role, quote_ident(nspname) AS schema,"
        " has_schema_privilege(oid, 'USAGE') AS is_usable"
        " FROM pg_namespace WHERE nspname = :p_schema"
    )
)

_ON_TABLES = Statement(
    sa.text(
        "SELECT relname, privilege FROM pg_class, unnest(CAST(:p_privileges AS text[])) privilege"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :p_schema)"
        " AND relname = ANY(CAST(:p_tables AS text[]))"
        " AND NOT has_table_privilege(pg_class.oid, privilege) ORDER BY relname, privilege"
    )
)

_ON_SEQUENCE = Statement(
    sa.text(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :p_schema)"
        " AND relname = :p_sequence AND relkind = 'S'"
        " AND NOT has_sequence_privilege(oid, 'USAGE')"
    )
)

_ON_FUNCTIONS = Statement(
    sa.text(
        "SELECT signature FROM unnest(CAST(:p_signatures AS text[])) signature"
        " WHERE NOT has_function_privilege('pg_catalog.' || signature, 'EXECUTE')"
    )
)

_FILTERED = Statement(
    sa.text(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :p_schema)"
        " AND relname = ANY(CAST(:p_tables AS text[])) AND row_security_active(oid)"
    )
)

_EVERY = ("SELECT", "INSERT", "UPDATE", "DELETE")


def check(connection: Connection, version_table: str) -> None:
    """Raise `ConfigurationError` with the GRANTs that are missing; warn of row level security."""
    found = one(connection, _ON_SCHEMA, {"schema": connection.schema})
    if found is None:
        return
    role, schema = found["role"], found["schema"]
    lacking = [] if found["is_usable"] else [f"GRANT USAGE ON SCHEMA {schema} TO {role};"]
    lacking += _on_tables(connection, schema, role, TABLES, _EVERY)
    lacking += _on_tables(connection, schema, role, [version_table], ("SELECT",))
    sequence = {"schema": connection.schema, "sequence": lock_numbers.name}
    for row in connection.rows(_ON_SEQUENCE, sequence):
        lacking.append(f"GRANT USAGE ON SEQUENCE {schema}.{row['relname']} TO {role};")
    for row in connection.rows(_ON_FUNCTIONS, {"signatures": _array(FUNCTIONS)}):
        lacking.append(f"GRANT EXECUTE ON FUNCTION pg_catalog.{row['signature']} TO {role};")
    if lacking:
        raise ConfigurationError(
            f"The role {role} may not do what the library does. As their owner, run:"
            f" {' '.join(lacking)}"
        )
    filtered = connection.rows(_FILTERED, {"schema": connection.schema, "tables": _array(TABLES)})
    if filtered:
        logger.warning(
            "Row level security holds for the role %s on %s. Where a policy hides rows, runs stand"
            " still. Run: ALTER ROLE %s BYPASSRLS",
            role,
            ", ".join(row["relname"] for row in filtered),
            role,
        )


def _on_tables(
    connection: Connection, schema: str, role: str, tables: Sequence[str], rights: Sequence[str]
) -> list[str]:
    """One GRANT for all tables that lack the same."""
    parameters = {
        "schema": connection.schema,
        "tables": _array(tables),
        "privileges": _array(rights),
    }
    of_table: dict[str, list[str]] = defaultdict(list)
    for row in connection.rows(_ON_TABLES, parameters):
        of_table[row["relname"]].append(row["privilege"])
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for table, lacks in of_table.items():
        alike[tuple(one for one in rights if one in lacks)].append(f"{schema}.{table}")
    return [
        f"GRANT {', '.join(lacks)} ON {', '.join(named)} TO {role};"
        for lacks, named in alike.items()
    ]


def _array(words: Sequence[str]) -> str:
    """The text form of an array: drivers differ in how they take a list."""
    return "{" + ",".join(f'"{word}"' for word in words) + "}"
