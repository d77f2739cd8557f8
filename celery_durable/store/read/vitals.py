"""Reads the state of the server, as far as runs depend on it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from celery_durable.core.finding import Holder, Holds, TableHealth, Vitals
from celery_durable.store import sql
from celery_durable.store import tables as t
from celery_durable.store.connection import Connection, Statement, one

MOST_HOLDERS = 10


def _catalog(name: str, *columns: str) -> Any:
    return sa.table(name, *map(sa.column, columns), schema="pg_catalog")


_activity = _catalog(
    "pg_stat_activity",
    *("pid", "datid", "usename", "application_name", "backend_type", "state", "xact_start"),
    *("backend_xid", "backend_xmin"),
)
_roles = _catalog("pg_roles", "rolname", "rolconnlimit")
_databases = _catalog("pg_database", "oid", "datname", "datconnlimit")
_classes = _catalog("pg_class", "oid", "reloptions")
_table_stats = _catalog(
    "pg_stat_user_tables", "relid", "schemaname", "relname", "n_live_tup", "n_dead_tup"
)
_slots = _catalog("pg_replication_slots", "slot_name", "xmin")
_prepared = _catalog("pg_prepared_xacts", "gid", "prepared", "transaction")
_standbys = _catalog("pg_stat_replication", "application_name", "backend_xmin", "pid")
_vacuums = _catalog("pg_stat_progress_vacuum", "pid")

_zero: Any = sa.literal_column("0")
_nothing = sa.null()


def _setting(name: str) -> Any:
    """A setting as text; NULL where this Postgres lacks it."""
    return sa.func.current_setting(sql.word(name), sa.true())


def _number(setting: str) -> Any:
    return sa.func.coalesce(sa.cast(_setting(setting), sa.Integer), _zero)


def _limit(column: Any, condition: Any) -> Any:
    """A limit of connections; NULL for none, which is -1."""
    found = sa.func.nullif(column, sa.literal_column("-1"))
    return sa.select(found).where(condition).scalar_subquery()


_is_client = _activity.c.backend_type == sql.word("client backend")
_clients = sa.select(sa.func.count()).select_from(_activity)

_SERVER = Statement(
    sa.select(
        sql.clock.label("at"),
        sa.func.pg_is_in_recovery().label("is_replica"),
        sa.func.least(
            _number("max_connections")
            - _number("superuser_reserved_connections")
            - _number("reserved_connections"),
            _limit(_roles.c.rolconnlimit, _roles.c.rolname == sa.func.current_user()),
            _limit(_databases.c.datconnlimit, _databases.c.datname == sa.func.current_database()),
        ).label("most_connections"),
        _clients.where(_is_client).scalar_subquery().label("connections"),
        _clients.where(_is_client, _activity.c.application_name != _setting("application_name"))
        .scalar_subquery()
        .label("others"),
        sa.and_(
            _setting("autovacuum") == sql.word("on"), _setting("track_counts") == sql.word("on")
        ).label("vacuums"),
        sa.func.pg_has_role(sql.word("pg_read_all_stats"), sql.word("USAGE")).label("sees_others"),
    )
)

_OFF = ", ".join(f"'autovacuum_enabled={word}'" for word in ("false", "off", "no", "0"))

_is_off = sa.func.coalesce(
    sa.cast(_classes.c.reloptions, ARRAY(sa.Text)).bool_op("&&")(
        sa.literal_column(f"ARRAY[{_OFF}]")
    ),
    sa.false(),
)

_TABLES = Statement(
    sa.select(
        _table_stats.c.relname.label("name"),
        _table_stats.c.n_live_tup.label("live"),
        _table_stats.c.n_dead_tup.label("dead"),
        sa.not_(_is_off).label("is_vacuumed"),
    )
    .join_from(_table_stats, _classes, _classes.c.oid == _table_stats.c.relid)
    .where(
        _table_stats.c.schemaname == sql.text("schema"),
        _table_stats.c.relname.in_([sql.word(table.name) for table in t.metadata.sorted_tables]),
    )
    .order_by(_table_stats.c.relname)
)

_here = (
    sa.select(_databases.c.oid)
    .where(_databases.c.datname == sa.func.current_database())
    .scalar_subquery()
)


def _held(kind: Holds, name: Any, age: Any, **columns: Any) -> Any:
    names: dict[str, Any] = {
        "since": sa.DateTime(timezone=True),
        "pid": sa.Integer(),
        "state": sa.Text(),
    }
    rest = (sa.cast(columns.get(key, _nothing), type_).label(key) for key, type_ in names.items())
    return sa.select(
        sql.word(kind).label("kind"),
        sa.cast(name, sa.Text).label("name"),
        sa.func.age(age).label("age"),
        *rest,
    )


# What a session of another database reads keeps none of our rows; what it writes does: no session
# here sees further than the oldest transaction that is under way anywhere.
_oldest = sa.case(
    (
        _activity.c.datid == _here,
        sa.func.coalesce(_activity.c.backend_xmin, _activity.c.backend_xid),
    ),
    else_=_activity.c.backend_xid,
)

# A VACUUM keeps nothing from another one: Postgres leaves its transaction out (PROC_IN_VACUUM).
_vacuuming = sa.or_(
    _activity.c.backend_type == sql.word("autovacuum worker"),
    _activity.c.pid.in_(sa.select(_vacuums.c.pid)),
)

_holders = sa.union_all(
    _held(
        Holds.TRANSACTION,
        sa.func.coalesce(_activity.c.usename, _activity.c.backend_type),
        _oldest,
        since=_activity.c.xact_start,
        pid=_activity.c.pid,
        state=sa.func.coalesce(_activity.c.state, sql.word("unknown")),
    ).where(
        _oldest.is_not(None),
        _activity.c.xact_start.is_not(None),
        _activity.c.pid != sa.func.pg_backend_pid(),
        sa.not_(_vacuuming),
    ),
    _held(Holds.PREPARED, _prepared.c.gid, _prepared.c.transaction, since=_prepared.c.prepared),
    _held(Holds.SLOT, _slots.c.slot_name, _slots.c.xmin).where(_slots.c.xmin.is_not(None)),
    _held(
        Holds.STANDBY, _standbys.c.application_name, _standbys.c.backend_xmin, pid=_standbys.c.pid
    ).where(_standbys.c.backend_xmin.is_not(None)),
).subquery("holders")

_HOLDERS = Statement(
    sa.select(_holders)
    .order_by(_holders.c.since.nulls_first(), _holders.c.age.desc())
    .limit(sa.literal_column(str(MOST_HOLDERS)))
)


def vitals(connection: Connection) -> Vitals:
    """The state of the server now."""
    server = one(connection, _SERVER, {})
    assert server is not None
    tables = connection.rows(_TABLES, {"schema": connection.schema})
    holders = [_holder_of(row) for row in connection.rows(_HOLDERS)]
    return Vitals(**server, tables=[TableHealth(**row) for row in tables], holders=holders)


def _holder_of(row: Any) -> Holder:
    return Holder(**{**row, "kind": Holds(row["kind"]), "state": row["state"] or ""})
