"""Someone who enters a folder knows from its docstring what lives there: each module is named."""

import ast
import re
from pathlib import Path

import pytest

import celery_durable

ROOT = Path(celery_durable.__file__).parent
AT_THE_ROOT = {
    *("__init__", "arguments", "connected", "reading", "steering", "client", "durable"),
    *("errors", "models", "run", "settings", "signals"),
}
"""What users hold, and nothing else: a `client` is `reading` and `steering`, each `connected`."""

WITHOUT_A_LIST = {
    "contrib/django/migrations",
    "database/migrations",
    "database/migrations/versions",
}
"""Alembic's and Django's: their modules are found by path and number."""

ROOMS = sorted(
    str(path.parent.relative_to(ROOT))
    for path in ROOT.rglob("__init__.py")
    if path.parent != ROOT and str(path.parent.relative_to(ROOT)) not in WITHOUT_A_LIST
)


def listed(docstring: str) -> set[str]:
    """The modules that the indented lines of a docstring begin with, alone or after a comma."""
    heads = re.findall(r"^    ([a-z_0-9]+(?:, [a-z_0-9]+)*)", docstring, re.MULTILINE)
    return {name for head in heads for name in head.split(", ")}


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_lists_what_lives_in_it(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()), clean=False)
    there = {
        path.stem
        for path in (ROOT / room).iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert docstring is not None
    assert listed(docstring) == there


def test_nothing_stands_at_the_root_but_what_users_hold() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == AT_THE_ROOT


ARCHITECTURE = ROOT.parent / "docs" / "explanation" / "architecture.md"
ROW = re.compile(r"^\| `([a-z]+)` \| ([\d,]+) \|", re.MULTILINE)


def lines_of(room: str) -> int:
    """The lines of a room's modules; migrations are not read."""
    found = (path for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts)
    return sum(len(path.read_text().splitlines()) for path in found)


def test_the_architecture_page_says_how_long_each_room_is() -> None:
    said = {
        room: int(lines.replace(",", "")) for room, lines in ROW.findall(ARCHITECTURE.read_text())
    }
    assert set(said) == {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    for room, lines in said.items():
        assert lines == pytest.approx(lines_of(room), rel=0.25), room
