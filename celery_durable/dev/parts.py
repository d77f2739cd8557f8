"""The parts, as this process starts them: each is the same command again, with `--part` after it.

So a part imports the app just as this process did: by `-A`, `manage.py`, or whatever else was
typed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from celery_durable.dev.process import Part
from celery_durable.errors import ConfigurationError

HANDED = "DURABLE_DEV"
"""The variable of a part's environment with what is handed on to it."""

Name = Literal["worker", "beat", "page", "check"]

NAMES: tuple[Name, ...] = get_args(Name)

KEPT: Sequence[Name] = ("worker", "beat", "page")
"""The parts that are kept running; `check` only imports the app, and ends."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What is handed on to a part: the page's token, socket, and the URL of an embedded broker."""

    home: str
    token: str
    listening_fd: int
    broker: str | None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Handed:
        """What was handed on to this process. Raises `ConfigurationError` in any other."""
        if HANDED not in environment:
            raise ConfigurationError("--part is for the processes that `durable dev` starts.")
        return cls(**json.loads(environment[HANDED]))


def part(name: Name, handed: Handed, directory: Path) -> Part:
    """The part called `name`; `directory` is where this process was started."""
    return Part(
        name,
        [*_own_command(), "--part", name],
        {**os.environ, HANDED: json.dumps(asdict(handed)), "PYTHONUNBUFFERED": "1"},
        directory,
        (handed.listening_fd,) if name == "page" else (),
    )


def _own_command() -> Sequence[str]:
    """The words by which this process was started. Raises `ConfigurationError` in another one."""
    words = sys.orig_argv[1:]
    if "dev" not in words:
        raise ConfigurationError(
            "`dev` starts its parts by the command that was typed, and this process is another"
            " one. Call it from a terminal: celery -A <app> durable dev"
        )
    return [sys.executable, *words]
