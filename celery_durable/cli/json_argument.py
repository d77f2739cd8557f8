"""JSON that a command is given: as an argument, in a file, or on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

BOM = "\ufeff"
"""What editors on Windows put before a text."""


def json_given(_: click.Context, __: click.Parameter, given: str | None) -> Any:
    """A callback for click: what JSON, @file or - mean; None where nothing is given."""
    if given is None:
        return None
    try:
        return json.loads(_read(given).removeprefix(BOM))
    except RecursionError as error:
        raise click.BadParameter("it is nested too deep; 100 levels may nest.") from error
    except OSError as error:
        raise click.BadParameter(f"{given[1:]} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise click.BadParameter(
            f"it is not JSON: {error}. A string needs its own quotes, as in '\"text\"'."
        ) from error


def _read(given: str) -> str:
    if given == "-":
        return as_utf8(sys.stdin.read())
    return Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given


def as_utf8(text: str) -> str:
    """`text`, where Python has read it by a locale that knows no more than ASCII, as UTF-8.

    Bytes outside of ASCII are half characters by then (PEP 383); those that are no UTF-8 stay so,
    and are refused where they would be stored.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
