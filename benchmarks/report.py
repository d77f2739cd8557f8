"""The sections of a run on the screen, as JSON, and with them what machine they come from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.peers import PACKAGES
from benchmarks.section import Section

PIPED = 180
"""Columns where there is no terminal: no table is folded."""


def console() -> Console:
    """Where tables go to."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=PIPED, color_system=None)


def show(screen: Console, section: Section) -> None:
    """Print one section; nothing if it has no rows."""
    if not section.rows:
        return
    table = Table(title=section.title, title_justify="left", box=SIMPLE_HEAD, caption=section.note)
    table.caption_justify = "left"
    for place, column in enumerate(section.columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    plain = [row for row in section.rows if not _is_error(row)]
    for row in plain:
        table.add_row(*row)
    screen.print(table)
    for row in section.rows:
        if _is_error(row):
            screen.print(f"  {row[0]}: {row[1]}", markup=False, highlight=False)


def foot(machine: dict[str, object]) -> str:
    """One line about what the figures depend on."""
    return (
        f"{machine['cores']} cores, {machine['postgres']}, Python {machine['python']};"
        f" load before: {machine['load']:.1f}"
    )


def machine(postgres: str) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "postgres": postgres,
        "load": os.getloadavg()[0],
        "packages": {name: version(name) for name in ("celery", "kombu", "psycopg", "sqlalchemy")},
        "peers": sorted(package for packages in PACKAGES.values() for package in packages),
    }


def document(machine: dict[str, object], sections: Sequence[Section]) -> str:
    """All that was measured, as JSON."""
    measured = [
        {
            "title": section.title,
            "note": section.note,
            "columns": section.columns,
            "rows": section.rows,
            "record": section.record,
        }
        for section in sections
    ]
    return json.dumps({"machine": machine, "sections": measured}, indent=1, default=str) + "\n"


def _is_error(row: Sequence[str]) -> bool:
    return len(row) > 2 and not any(row[2:])
