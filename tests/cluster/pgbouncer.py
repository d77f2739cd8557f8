"""A PgBouncer in transaction mode, in front of the Postgres of the tests."""

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url

from tests.cluster.process import LocalProcess

# Debian's package puts it where not everybody's PATH leads.
PLACES = (os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")

POOL_SIZE = 4
"""Fewer than the clients: statements of one client do go to different server processes."""

SETTINGS = """
[databases]
* = {server}
[pgbouncer]
pool_mode = transaction
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
default_pool_size = {pool_size}
max_client_conn = 200
server_idle_timeout = 2
"""


def pgbouncer() -> str | None:
    """The command, if there is one."""
    return shutil.which("pgbouncer", path=os.pathsep.join(PLACES))


class PgBouncer:
    """A running pooler; `url` is the way through it to a database."""

    def __init__(self, process: LocalProcess, port: int) -> None:
        self._process = process
        self._port = port

    def url(self, direct: str) -> str:
        """The SQLAlchemy URL of the database at `direct`, through the pooler."""
        url = make_url(direct).set(host="127.0.0.1", port=self._port, query={})
        return url.render_as_string(hide_password=False)

    @property
    def log(self) -> str:
        return self._process.log


@contextmanager
def running_pgbouncer(
    command: str, directory: Path, port: int, conninfo: str
) -> Iterator[PgBouncer]:
    """A pooler in front of the server that `conninfo` leads to; it is gone afterwards."""
    server = {key: value for key, value in conninfo_to_dict(conninfo).items() if key != "dbname"}
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(server=make_conninfo("", **server), port=port, pool_size=POOL_SIZE)
    )
    words = [command, *_as_whom(server.get("host")), str(settings)]
    process = LocalProcess(words, name="pgbouncer", directory=directory)
    pooler = PgBouncer(process, port)
    try:
        process.start_listening(port)
        yield pooler
    finally:
        process.end()


def _as_whom(host: object) -> list[str]:
    """PgBouncer refuses to run as root; for root, as whoever may enter the server's socket."""
    if os.geteuid() != 0:
        return []
    sockets = Path(str(host or "/"))
    owner = pwd.getpwuid(sockets.stat().st_uid).pw_name if sockets.is_dir() else "nobody"
    return ["-u", owner if owner != "root" else "nobody"]
