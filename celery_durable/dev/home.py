"""The folder `.durable` beside the project: what one `durable dev` keeps for the next."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from celery_durable.errors import ConfigurationError
from celery_durable.testing.binaries import is_open_to_everybody
from celery_durable.testing.embedded import is_fit_for_sockets

FOLDER = ".durable"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one project; whoever holds its lock is the only one who uses it."""

    path: Path

    @classmethod
    def of(cls, project: Path) -> Home:
        """The folder of a project; it is made if it is not there, and git ignores it.

        Raises `ConfigurationError` if it cannot be made.
        """
        home = cls(project.absolute() / FOLDER)
        try:
            home.path.mkdir(exist_ok=True)
            (home.path / ".gitignore").write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{home.path} cannot be written, and `dev` keeps there what outlives it:"
                f" {error.strerror}. Call it in a folder that you may write in."
            ) from error
        return home

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; the kernel frees it when this process ends, however it ends.

        Raises `ConfigurationError` if another process holds it.
        """
        with self._lock.open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(self._who(lock)) from None
            self.tell(None)
            yield

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    def _who(self, lock: IO[str]) -> str:
        lock.seek(0)
        text = lock.read()
        told = json.loads(text) if text else {}
        where = f": its page is {told['url']}" if told.get("url") else ""
        number = f" (process {told['pid']})" if "pid" in told else ""
        return f"A `durable dev` is running in {self.path.parent} already{number}{where}"

    def tell(self, url: str | None) -> None:
        """Write down for a second `durable dev` which process this is, and where its page is."""
        # The lock is on the file: it is written into, not replaced. The URL holds a token.
        self._lock.chmod(0o600)
        self._lock.write_text(json.dumps({"pid": os.getpid(), "url": url}), encoding="utf-8")

    def empty(self) -> None:
        """Delete what was kept: the embedded Postgres with all runs, the token, beat's times."""
        shutil.rmtree(self.postgres, ignore_errors=True)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self._lock and path.name != ".gitignore":
                path.unlink()

    @property
    def postgres(self) -> Path:
        """The folder of the embedded Postgres: elsewhere if its sockets cannot be in this one.

        For root, under whom PostgreSQL does not run, one that its user can reach: not in /root.
        """
        inside = self.path / "postgres"
        is_reachable = os.geteuid() != 0 or is_open_to_everybody(inside)
        if is_reachable and is_fit_for_sockets(inside):
            return inside
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return _our_own(Path("/var/tmp") / f"celery-durable-dev-{name}")  # noqa: S108 - see there

    @property
    def schedule(self) -> Path:
        """The file in which beat keeps when it has sent what."""
        return self.path / "beat-schedule"

    def token(self) -> str:
        """The token of the page, which stays the same so that open tabs and bookmarks do."""
        path = self.path / "token"
        if not path.exists() or not path.stat().st_size:
            made = self.path / "token.new"  # a token that is half written is none
            with open(made, "w", encoding="ascii", opener=_private) as file:
                file.write(secrets.token_urlsafe(24))
            made.rename(path)
        return path.read_text(encoding="ascii")


def _our_own(folder: Path) -> Path:
    """The folder, unless somebody else has made it: everybody may write beside it."""
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.geteuid()):
        raise ConfigurationError(
            f"{folder} is somebody else's, and the embedded Postgres was to be kept there. Remove"
            " it, or set DURABLE_DATABASE_URL to use a server of your own."
        )
    return folder


def _private(path: str, flags: int) -> int:
    """An opener that lets only the owner read the file."""
    return os.open(path, flags, mode=0o600)
