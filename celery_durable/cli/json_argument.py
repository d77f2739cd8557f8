"""JSON as an argument: on the command line, in a file, or from standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

BOM = "\ufeff"
"""The mark that editors on Windows put before a text."""


def json_argument(_: click.Context, __: click.Parameter, argument: str | None) -> Any:
    """A callback for click: parse JSON, @file or -; None where there is no argument."""
    if argument is None:
        return None
    try:
        return json.loads(_read(argument).removeprefix(BOM))
    except RecursionError as error:
        raise click.BadParameter("it is nested too deep; 100 levels may nest.") from error
    except OSError as error:
        raise click.BadParameter(f"{argument[1:]} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise click.BadParameter(
            f"it is not JSON: {error}. A string needs its own quotes, as in '\"text\"'."
        ) from error


def _read(argument: str) -> str:
    if argument == "-":
        return as_utf8(sys.stdin.read())
    if argument.startswith("@"):
        return Path(argument[1:]).read_text(encoding="utf-8")
    return argument


def as_utf8(text: str) -> str:
    """`text` decoded as UTF-8, where Python decoded it by a locale that knows only ASCII.

    Python keeps each byte outside of ASCII as a lone surrogate (PEP 383). Bytes that are not UTF-8
    stay surrogates, and are refused where they would be stored.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
