"""The three forms of a command's output: for a terminal, for a pipe, and JSON.

Commands pass rows of `Text`. A terminal shows their styles; in a pipe the cells are plain and
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

from celery_durable.core.status import Status
from celery_durable.view.document import as_json as to_json
from celery_durable.view.formatting import clock, local, one_line, utc

Row = Sequence[Text]
Rows = Sequence[Row]

STATUS_STYLES = {
    Status.PENDING: "blue",
    Status.RUNNING: "cyan",
    Status.SUSPENDED: "yellow",
    Status.SLEEPING: "blue",
    Status.PAUSED: "bold yellow",
    Status.COMPENSATING: "magenta",
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "yellow",
}


class Form(Enum):
    """The form of a command's output."""

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
    """Writes to standard output in one of the three forms."""

    form: Form
    console: Console

    @classmethod
    def of(cls, ctx: click.Context, *, as_json: bool) -> Output:
        """JSON with --json; otherwise the form for what standard output is connected to."""
        is_terminal = sys.stdout.isatty()
        form = Form.JSON if as_json else Form.TERMINAL if is_terminal else Form.PIPE
        _write_utf_8(form)
        console = Console(highlight=False, no_color=ctx.obj.no_color or None)
        return cls(form, console)

    def answer(self, document: Any, *texts: Text) -> None:
        """Write a short answer: the document as JSON, the texts in the other forms."""
        if self.form is Form.JSON:
            self.document(document)
        else:
            self.lines(*texts)

    def document(self, value: Any) -> None:
        """Write one JSON document."""
        click.echo(to_json(value))

    def json_line(self, value: Any) -> None:
        """Write one of several JSON documents, on a line of its own."""
        click.echo(to_json(value, indent=None))

    def lines(self, *texts: Text) -> None:
        """Write each text on a line, however long."""
        for text in texts:
            if self.form is Form.TERMINAL:
                self.console.print(text, soft_wrap=True)
            else:
                click.echo(text.plain)

    def draw(self, renderable: RenderableType) -> None:
        """Write something that only a terminal can show."""
        self.console.print(renderable)

    def table(self, columns: Sequence[Column], rows: Rows, *, if_empty: str = "") -> None:
        """Write rows under titles. `if_empty` takes the place of an empty table on a terminal."""
        if self.form is not Form.TERMINAL:
            titles = [Text(column.title.upper()) for column in columns]
            click.echo(aligned([titles, *rows]))
        elif if_empty and not rows:
            self.lines(Text(if_empty, "dim"))
        else:
            self.draw(_terminal_table(columns, rows))

    def time(self, at: datetime | None) -> Text:
        """A time with its date; empty for None."""
        if at is None:
            return Text()
        return Text(local(at) if self.form is Form.TERMINAL else utc(at))

    def short_time(self, at: datetime, now: datetime) -> str:
        """A time that a terminal shows as short as possible."""
        return clock(at, now) if self.form is Form.TERMINAL else utc(at)


def _write_utf_8(form: Form) -> None:
    # JSON is UTF-8 under any locale (RFC 8259). click writes UTF-8 under one that knows only ASCII;
    # rich writes to sys.stdout as it is.
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and (
        form is Form.JSON or codecs.lookup(out.encoding).name == "ascii"
    ):
        out.reconfigure(encoding="utf-8")


def _terminal_table(columns: Sequence[Column], rows: Rows) -> Table:
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
    """Rows as plain text, each column as wide as its widest cell."""
    widths = [
        max(cell_len(cell.plain) for cell in column)
        for column in zip_longest(*rows, fillvalue=Text())
    ]
    return "\n".join(
        "  ".join(
            set_cell_size(cell.plain, width) for cell, width in zip(row, widths, strict=False)
        ).rstrip()
        for row in rows
    )


def status_text(status: Status) -> Text:
    """A status in its colour."""
    return Text(status.value, STATUS_STYLES[status])


def workflow_text(workflow: str, version: int) -> Text:
    """The name and the version of a workflow."""
    return Text(one_line(workflow)).append(f" v{version}", "dim")
