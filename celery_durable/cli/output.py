"""The three forms of what a command says: a terminal's, a pipe's, JSON.

Commands hand over rows of `Text`; on a terminal their styles show, in a pipe their words are
aligned. Text is built piece by piece, never from markup: a key such as `[red]` is printed as it is.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import zip_longest
from typing import Any

import click
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from celery_durable.cli.document import as_json as to_json
from celery_durable.cli.formatting import local, one_line, utc
from celery_durable.core.status import Status

Row = Sequence[Text]
Rows = Sequence[Row]

STATUS_STYLES = {
    Status.PENDING: "blue",
    Status.RUNNING: "cyan",
    Status.SUSPENDED: "yellow",
    Status.SLEEPING: "blue",
    Status.COMPENSATING: "magenta",
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "yellow",
}


class Form(Enum):
    """How to say it."""

    TERMINAL = auto()
    PIPE = auto()
    JSON = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. A `fixed` one keeps its width on a narrow terminal; others wrap."""

    title: str
    fixed: bool = True
    right: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Standard output, and the form it takes."""

    form: Form
    console: Console

    @classmethod
    def of(cls, ctx: click.Context, *, as_json: bool) -> Output:
        """JSON if it is asked for, else what the reader of standard output can use."""
        is_terminal = sys.stdout.isatty()
        write_utf_8()
        console = Console(highlight=False, no_color=ctx.obj.no_color or None)
        chosen = Form.JSON if as_json else Form.TERMINAL if is_terminal else Form.PIPE
        return cls(chosen, console)

    def document(self, value: Any) -> None:
        """One JSON document."""
        click.echo(to_json(value))

    def json_line(self, value: Any) -> None:
        """One JSON document of several, each on its line."""
        click.echo(to_json(value, indent=None))

    def lines(self, *texts: Text) -> None:
        """Text as it is."""
        for text in texts:
            if self.form is Form.TERMINAL:
                self.console.print(text, soft_wrap=True)
            else:
                click.echo(text.plain)

    def draw(self, renderable: RenderableType) -> None:
        """Something that only a terminal can show."""
        self.console.print(renderable)

    def table(self, columns: Sequence[Column], rows: Rows) -> None:
        """Rows under titles."""
        if self.form is Form.TERMINAL:
            self.draw(framed(columns, rows))
        else:
            titles = [Text(column.title.upper()) for column in columns]
            click.echo(aligned([titles, *rows]))

    def time(self, at: datetime | None) -> Text:
        """A time; nothing for None."""
        if at is None:
            return Text()
        return Text(local(at) if self.form is Form.TERMINAL else utc(at))


def write_utf_8() -> None:
    """Standard output is UTF-8 too where the locale knows no more than ASCII, as click's own is."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and codecs.lookup(out.encoding).name == "ascii":
        out.reconfigure(encoding="utf-8")


def framed(columns: Sequence[Column], rows: Rows) -> Table:
    """A table for a terminal."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        border_style="dim",
    )
    for column in columns:
        justify: JustifyMethod = "right" if column.right else "left"
        table.add_column(column.title, no_wrap=column.fixed, overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*row)
    return table


def aligned(rows: Rows) -> str:
    """Rows as text, each column as wide as its widest cell."""
    widths = [
        max(cell_len(cell.plain) for cell in column)
        for column in zip_longest(*rows, fillvalue=Text())
    ]
    return "\n".join("  ".join(map(_padded, row, widths)).rstrip() for row in rows)


def _padded(cell: Text, width: int) -> str:
    return set_cell_size(cell.plain, width)


def status_text(status: Status) -> Text:
    """A status in its colour."""
    return Text(status.value, STATUS_STYLES[status])


def workflow_text(workflow: str, version: int) -> Text:
    """A workflow and the version a run keeps."""
    return Text(one_line(workflow)).append(f" v{version}", "dim")
