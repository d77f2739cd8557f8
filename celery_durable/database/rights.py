"""Checks that the role may do what our statements do, and names the rights that it lacks."""

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
    "pg_advisory_lock_shared(integer, integer)",
    "pg_notify(text, text)",
    "pg_try_advisory_lock(integer, integer)",
    "pg_try_advisory_xact_lock(integer, integer)",
    "pg_postmaster_start_time()",
    "set_config(text, text, boolean)",
    "hashtext(text)",
)
"""Functions that our statements call; every role may call them, unless the server is hardened."""

_SCHEMA_USAGE = Statement(
    sa.text(
        "SELECT quote_ident(current_user) AS role, quote_ident(nspname) AS schema,"
        " has_schema_privilege(oid, 'USAGE') AS is_usable"
        " FROM pg_namespace WHERE nspname = :p_schema"
    )
)

_MISSING_ON_TABLES = Statement(
    sa.text(
        "SELECT relname, privilege FROM pg_class, unnest(CAST(:p_privileges AS text[])) privilege"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :p_schema)"
        " AND relname = ANY(CAST(:p_tables AS text[]))"
        " AND NOT has_table_privilege(pg_class.oid, privilege) ORDER BY relname, privilege"
    )
)

_MISSING_ON_SEQUENCE = Statement(
    sa.text(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :p_schema)"
        " AND relname = :p_sequence AND relkind = 'S'"
        " AND NOT has_sequence_privilege(oid, 'USAGE')"
    )
)

_MISSING_ON_FUNCTIONS = Statement(
    sa.text(
        "SELECT signature FROM unnest(CAST(:p_signatures AS text[])) signature"
        " WHERE NOT has_function_privilege('pg_catalog.' || signature, 'EXECUTE')"
    )
)

_UNDER_ROW_SECURITY = Statement(
    sa.text(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :p_schema)"
        " AND relname = ANY(CAST(:p_tables AS text[])) AND row_security_active(oid)"
    )
)

_READ_AND_WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE")


def check(connection: Connection, version_table: str) -> None:
    """Raise `ConfigurationError` with the missing GRANTs; warn of row level security."""
    found = one(connection, _SCHEMA_USAGE, {"schema": connection.schema})
    if found is None:
        return
    role, schema = found["role"], found["schema"]
    grants = [] if found["is_usable"] else [f"GRANT USAGE ON SCHEMA {schema} TO {role};"]
    grants += _grants_on_tables(connection, schema, role, TABLES, _READ_AND_WRITE)
    grants += _grants_on_tables(connection, schema, role, [version_table], ("SELECT",))
    sequence = {"schema": connection.schema, "sequence": lock_numbers.name}
    for row in connection.rows(_MISSING_ON_SEQUENCE, sequence):
        grants.append(f"GRANT USAGE ON SEQUENCE {schema}.{row['relname']} TO {role};")
    for row in connection.rows(_MISSING_ON_FUNCTIONS, {"signatures": _array(FUNCTIONS)}):
        grants.append(f"GRANT EXECUTE ON FUNCTION pg_catalog.{row['signature']} TO {role};")
    if grants:
        raise ConfigurationError(
            f"The role {role} lacks rights that the library needs. As the owner of these objects,"
            f" run: {' '.join(grants)}"
        )
    under_policies = connection.rows(
        _UNDER_ROW_SECURITY, {"schema": connection.schema, "tables": _array(TABLES)}
    )
    if under_policies:
        logger.warning(
            "Row level security holds for the role %s on %s. Runs whose rows a policy hides do not"
            " advance. Run: ALTER ROLE %s BYPASSRLS",
            role,
            ", ".join(row["relname"] for row in under_policies),
            role,
        )


_MAY_CREATE = Statement(
    sa.text(
        "SELECT quote_ident(current_user) AS role, quote_ident(current_database()) AS database,"
        " quote_ident(CAST(:p_schema AS text)) AS schema, EXISTS (SELECT FROM pg_namespace"
        " WHERE nspname = CAST(:p_schema AS text)) AS is_there,"
        " (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace"
        " WHERE nspname = CAST(:p_schema AS text)) AS may_create_tables,"
        " has_database_privilege(current_database(), 'CREATE') AS may_create_schemas"
    )
)


def check_may_create(connection: Connection) -> None:
    """Raise `ConfigurationError` with the GRANT that a role needs to create the tables."""
    (found,) = connection.rows(_MAY_CREATE, {"schema": connection.schema})
    if found["may_create_tables" if found["is_there"] else "may_create_schemas"]:
        return
    where = f"SCHEMA {found['schema']}" if found["is_there"] else f"DATABASE {found['database']}"
    raise ConfigurationError(
        f"The role {found['role']} may not create the tables. As the owner of the"
        f" {where.partition(' ')[0].lower()}, run: GRANT CREATE ON {where} TO {found['role']};"
    )


def _grants_on_tables(
    connection: Connection, schema: str, role: str, tables: Sequence[str], rights: Sequence[str]
) -> list[str]:
    """Return the missing GRANTs, one for all tables on which the role lacks the same rights."""
    parameters = {
        "schema": connection.schema,
        "tables": _array(tables),
        "privileges": _array(rights),
    }
    missing: dict[str, list[str]] = defaultdict(list)
    for row in connection.rows(_MISSING_ON_TABLES, parameters):
        missing[row["relname"]].append(row["privilege"])
    tables_by_rights: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for table, lacked in missing.items():
        in_order = tuple(right for right in rights if right in lacked)
        tables_by_rights[in_order].append(f"{schema}.{table}")
    return [
        f"GRANT {', '.join(lacked)} ON {', '.join(named)} TO {role};"
        for lacked, named in tables_by_rights.items()
    ]


def _array(words: Sequence[str]) -> str:
    """Return the text form of an array: drivers differ in how they take a list."""
    return "{" + ",".join(f'"{word}"' for word in words) + "}"
