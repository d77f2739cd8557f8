"""JSON that a command is given: as an argument, in a file, or on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


def json_given(_: click.Context, __: click.Parameter, given: str | None) -> Any:
    """A callback for click: what JSON, @file or - mean; None where nothing is given."""
    if given is None:
        return None
    try:
        return json.loads(_read(given))
    except OSError as error:
        raise click.BadParameter(f"{given[1:]} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise click.BadParameter(
            f"it is not JSON: {error}. A string needs its own quotes, as in '\"text\"'."
        ) from error


def _read(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    return Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
