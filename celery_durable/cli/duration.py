"""A duration as an argument: `90`, `45s`, `30m`, `12h`, `30d`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from celery_durable.errors import LONGEST
from celery_durable.view.formatting import DAY, HOUR, MINUTE

_UNITS = {"": 1, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY}
_FORM = re.compile(r"(\d+(?:\.\d+)?) *([smhd]?)", re.ASCII)


def duration(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    """Callback of an option: the duration that its text says, a number with a unit."""
    if text is None:
        return None
    found = _FORM.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else LONGEST + 1
    if seconds > LONGEST:
        raise click.BadParameter(
            f"{text!r} is no duration: a number of seconds, or one with s, m, h or d, such as 30d;"
            " at most a hundred years."
        )
    return timedelta(seconds=seconds)


def some_duration(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> timedelta | None:
    """`duration`, which must be more than none."""
    found = duration(context, parameter, text)
    if found is not None and not found:
        raise click.BadParameter("must be longer than 0 seconds.")
    return found
