"""One `durable dev` from its beginning to its end."""

from __future__ import annotations

import asyncio
import os
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shlex import quote as shell_quote
from urllib.parse import quote

from celery_durable.dev import postgres, watching
from celery_durable.dev.addresses import (
    DATABASE_URL,
    LOOPBACK,
    broker_trouble,
    has_database,
    listen,
)
from celery_durable.dev.home import Home
from celery_durable.dev.lines import Lines
from celery_durable.dev.parts import KEPT, Handed, part
from celery_durable.dev.process import Child, Part
from celery_durable.dev.supervisor import Supervisor
from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.testing.embedded import EmbeddedPostgres, install_pgmq

FIRST_PORT = 5556


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    port: int = FIRST_PORT
    fresh: bool = False
    reload: bool = True
    open: bool = False
    started_in: Path = Path()
    """Where the command was typed; --workdir may have gone elsewhere since."""


@dataclass(frozen=True, slots=True)
class Services:
    """The embedded Postgres, if one runs, and its URL where it is the broker."""

    server: EmbeddedPostgres | None = None
    broker: str | None = None


def develop(durable: Durable, options: Options, lines: Lines) -> None:
    """Run everything until Ctrl-C, SIGTERM or SIGHUP.

    Raises `ConfigurationError` for what has to be changed first, `DatabaseUnavailable` if the app's
    own database does not answer.
    """
    _require_page()
    home = Home.of(Path.cwd())
    with home.locked(), ExitStack() as stack:
        if options.fresh:
            home.empty()
        services = stack.enter_context(_services(durable, home, lines))
        durable.migrate()
        durable.database.close()
        listening = stack.enter_context(listen(options.port))
        session = _Session(home, options, lines, services)
        token = durable.settings.web_token or home.token()
        session.run(listening.getsockname()[1], listening.fileno(), token)


def _require_page() -> None:
    """Raise `ConfigurationError` where what the page needs is not installed."""
    for package in ("uvicorn", "starlette", "jinja2", "itsdangerous", "multipart"):
        if find_spec(package) is None:
            raise ConfigurationError(
                'The page needs packages that are not installed: pip install "celery-durable[demo]"'
            )


@contextmanager
def _services(durable: Durable, home: Home, lines: Lines) -> Iterator[Services]:
    """Run an embedded Postgres for what the app lacks: a database, a broker that answers."""
    needs_database = not has_database(durable)
    trouble = broker_trouble(durable.app)
    if not needs_database and trouble is None:
        yield Services()
        return
    with postgres.embedded(home) as server:
        url = server.url()
        where = home.postgres if home.postgres.parent != home.path else ".durable"
        if needs_database:
            os.environ[DATABASE_URL] = url
            lines.say(f"database: an embedded Postgres, whose data are kept in {where}")
            lines.say(f"in other terminals: export {DATABASE_URL}={shell_quote(url)}")
        if trouble is not None:
            install_pgmq(url)
            lines.say(f"broker: an embedded Postgres in {where}, since {trouble}")
        yield Services(server, url if trouble is not None else None)


class _Session:
    """What runs, and what is said about it."""

    def __init__(self, home: Home, options: Options, lines: Lines, services: Services) -> None:
        self._home = home
        self._options = options
        self._lines = lines
        self._server = services.server
        self._broker = services.broker
        self._is_shown = False

    def run(self, port: int, listening_fd: int, token: str) -> None:
        """Run until the end is asked for."""
        if port != self._options.port:
            self._lines.say(f"port {self._options.port} is taken: the page takes {port}")
        url = f"http://{LOOPBACK}:{port}/login?token={quote(token)}"
        self._home.tell(url)
        handed = Handed(str(self._home.path), token, listening_fd, self._broker)
        asyncio.run(self._supervise(handed, url))

    async def _supervise(self, handed: Handed, url: str) -> None:
        make = partial(part, handed=handed, directory=self._options.started_in)
        supervisor = Supervisor(
            [make(name) for name in KEPT], self._lines, {"page": partial(self._show, url)}
        )
        others = []
        if self._server is not None:
            others.append(partial(postgres.keep, self._server, self._lines))
        if self._options.reload:
            others.append(partial(self._follow_changes, supervisor, make("check")))
        await supervisor.run(*others)

    def _show(self, url: str) -> None:
        """Called each time that the page is ready: say once where it is."""
        if self._is_shown:
            return
        self._is_shown = True
        self._lines.say(f"the page, for this computer only: {url}", "bold")
        if self._options.open:
            webbrowser.open(url)

    async def _follow_changes(self, supervisor: Supervisor, check: Part) -> None:
        if not watching.is_installed():
            self._lines.say(
                f"changes of files are not noticed: pip install {watching.PACKAGE}", "yellow"
            )
            return
        try:
            changes = watching.changes(self._home.path.parent)
            await supervisor.follow(changes, partial(self._is_usable, check))
        except OSError as error:
            self._lines.say(f"changes of files are not noticed: {error}", "yellow")

    async def _is_usable(self, check: Part) -> bool:
        """True if the app can be imported; otherwise the reason is shown."""
        child = Child(check)
        try:
            said = [line async for line in child.lines()]
            code = await child.ended()
        finally:
            await child.kill()
        if code != 0:
            for line in _from_traceback(said):
                self._lines.show(check.name, line)
        return code == 0


def _from_traceback(said: Sequence[str]) -> Sequence[str]:
    """The lines without what Celery says before a traceback."""
    starts = [number for number, line in enumerate(said) if line.startswith("Traceback")]
    return said[starts[0] :] if starts else said
