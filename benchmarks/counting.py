"""A Postgres that counts statements.

`pg_stat_statements` has to be loaded when the server starts. Where the server at hand has not done
so, one of our own does, from the PostgreSQL that is installed on this machine; the wheel of the
embedded server does not have the extension. Where there is none, transactions are counted instead
(`statements`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from benchmarks.services import Postgres, Services
from benchmarks.statements import Counter
from celery_durable.testing.embedded import EmbeddedPostgres

EXTENSION = "pg_stat_statements"
USUAL = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs, in a folder for each version."""


@contextmanager
def counting(services: Services) -> Iterator[Services]:
    """Services whose Postgres counts statements; the same ones if that cannot be had."""
    with services.postgres.connect() as connection:
        counts = Counter(connection, "").is_exact
    programs = None if counts else installed()
    if programs is None:
        yield services
        return
    with _Counting(programs) as own:
        yield own


def installed() -> Path | None:
    """The folder of an installed server that has the extension; of the newest one."""
    on_path = shutil.which("pg_config")
    folders = sorted(USUAL.glob("*/bin"), key=lambda one: float(one.parent.name), reverse=True)
    if on_path:
        folders.append(Path(_config(on_path, "--bindir")))
    for folder in folders:
        config = folder / "pg_config"
        if (folder / "initdb").exists() and config.exists():
            library = Path(_config(str(config), "--pkglibdir"), EXTENSION)
            if any(library.with_suffix(end).exists() for end in (".so", ".dylib")):
                return folder
    return None


def _config(program: str, what: str) -> str:
    ended = subprocess.run([program, what], capture_output=True, text=True, check=False)
    return ended.stdout.strip()


class _Counting(Services):
    """The same kinds of services, but for Postgres."""

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self._programs = programs

    @cached_property
    def postgres(self) -> Postgres:
        server = self._open.enter_context(_Server(self._programs))
        return Postgres(sa.make_url(server.url()), is_ours=True)


class _Server(EmbeddedPostgres):
    """An embedded server from installed programs, which loads the extension."""

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self._programs = Path(os.path.realpath(programs))

    def _reachable_binaries(self) -> Path:
        return self._programs

    def _options(self) -> list[str]:
        return [*super()._options(), "-c", f"shared_preload_libraries={EXTENSION}"]
