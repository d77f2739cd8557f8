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
    """Print one section; nothing if there is nothing in it."""
    if not section.rows and not section.errors:
        return
    screen.print(section.title, style="bold", highlight=False)
    if section.rows:
        screen.print(_table(section))
    for who, why in section.errors:
        screen.print(f"  {who}: {why}", markup=False, highlight=False)
    if section.note:
        screen.print(f"  {section.note}", style="dim", highlight=False)
    screen.print()


def _table(section: Section) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for place, column in enumerate(section.columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    for row in section.rows:
        table.add_row(*row)
    return table


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


def document(machine: dict[str, object], sections: Sequence[Section], targets: Section) -> str:
    """All that was measured, as JSON."""
    measured = [
        {
            "title": section.title,
            "note": section.note,
            "columns": section.columns,
            "rows": section.rows,
            "errors": section.errors,
            "figures": section.figures,
            "record": section.record,
        }
        for section in sections
    ]
    found = {"machine": machine, "targets": targets.record, "sections": measured}
    return json.dumps(found, indent=1, default=str) + "\n"
