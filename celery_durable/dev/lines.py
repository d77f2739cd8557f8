"""Shows what the parts say: a line each, with the time and the part's name before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.text import Text

from celery_durable.process.output import discard

OURS = "durable"
"""The name of the process that keeps the parts running."""

NAMES = {OURS: "bold", "worker": "cyan", "beat": "blue", "page": "magenta", "postgres": "green"}
LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
QUIET = ("DEBUG", "INFO")
WIDTH = max(map(len, NAMES))

_LEVEL = re.compile(rf"(?P<level>{'|'.join((*QUIET, *LEVELS))}) (?P<text>.*)")

LOG_FORMAT = "%(levelname)s %(message)s"
"""How the parts log, so that a line's level is known here."""


class Lines:
    """Writes to standard output: coloured on a terminal, plain in a pipe.

    When nobody reads any more it writes nothing, and calls what `when_gone` was given.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._levels: dict[str, str] = {}
        self._on_gone: Callable[[], None] = lambda: None
        self._is_gone = False

    def when_gone(self, call: Callable[[], None]) -> None:
        """Have this called when nobody reads any more; at once if that is so already."""
        self._on_gone = call
        if self._is_gone:
            call()

    def say(self, text: str, style: str = "") -> None:
        """Write a line of our own."""
        self._write(OURS, Text(text, style))

    def show(self, name: str, line: str) -> None:
        """Write a line of a part, in the colour of its level.

        What follows a line without a level of its own, such as a traceback, belongs to it.
        """
        if not line or line.isspace():
            return
        found = _LEVEL.fullmatch(line)
        if found is not None:
            self._levels[name] = found["level"]
        level = self._levels.get(name, "")
        text = Text.from_ansi(found["text"] if found is not None and level in QUIET else line)
        text.stylize_before(LEVELS.get(level, ""))
        self._write(name, text)

    def forget(self, name: str) -> None:
        """Called when a part starts anew: its first lines belong to nothing."""
        self._levels.pop(name, None)

    def _write(self, name: str, text: Text) -> None:
        time = datetime.now().astimezone().strftime("%H:%M:%S")
        line = Text.assemble(
            (f"{time} ", "dim"), (f"{name:<{WIDTH}}", NAMES.get(name, "")), (" | ", "dim"), text
        )
        try:
            if self._console.is_terminal:
                self._console.print(line, soft_wrap=True)
            else:
                self._console.file.write(f"{line.plain}\n")
                self._console.file.flush()
        except OSError:
            discard(self._console.file.fileno())
            self._is_gone = True
            self._on_gone()
