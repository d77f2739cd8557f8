"""`manage.py durable ...` is `celery -A <app> durable ...`: the same commands and exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery.bin.base import CLIContext
from django.core.management.base import BaseCommand, CommandError

from celery_durable.cli import durable as durable_group
from celery_durable.cli.application import DURABLE_COMMAND
from celery_durable.contrib.django.project import get_durable
from celery_durable.errors import ConfigurationError

DJANGOS = ("--settings", "--pythonpath")
"""Options of `manage.py` itself, which it has followed by the time this command is called."""


class Command(BaseCommand):
    """Passes its words on to the command line of the library."""

    help = "Durable workflows: set up the database, start runs and look after them."
    requires_system_checks: Sequence[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Called for `manage.py durable ...`. Ends the process with the command's exit code."""
        try:
            code = self._call(without_djangos(argv[2:]), f"{Path(argv[0]).name} {argv[1]}")
        except CommandError as error:
            self.stderr.write(f"Error: {error}")
            code = error.returncode
        sys.exit(code)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Called for `call_command`: take all words as they are."""
        parser.add_argument("words", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Called for `call_command("durable", ...)`. Raises `CommandError` with the exit code."""
        code = self._call(options["words"], "manage.py durable")
        if code:
            raise CommandError(f"manage.py durable ended with exit code {code}", returncode=code)

    def _call(self, words: Sequence[str], name: str) -> int:
        """Call the command, and return its exit code."""
        try:
            app = get_durable().app
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from error
        context = CLIContext(app=app, no_color=False, workdir=None)
        setattr(context, DURABLE_COMMAND, "python manage.py durable")
        try:
            durable_group.main(args=[*words], prog_name=name, obj=context)
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 0
        return 0


def without_djangos(words: Sequence[str]) -> list[str]:
    """Return the words without the options of `manage.py` itself, and without their values."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in DJANGOS:
            next(rest, None)
        elif not word.startswith(tuple(f"{option}=" for option in DJANGOS)):
            kept.append(word)
    return kept
