"""The golden files: read, compared with what runs, rewritten."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

from tests.integration.golden.formatting import formatted

HERE = Path(__file__).parent

REMEDY = "What runs is not what the golden file says; run: python -m tests.integration.golden"


def names() -> set[str]:
    """The statements that have a file."""
    return {path.stem for path in HERE.glob("*.sql")}


def read(name: str) -> str:
    """The file of a statement; empty where there is none."""
    path = HERE / f"{name}.sql"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def difference(name: str, text: str) -> str:
    """A unified diff from the file to `text`, which should be in it; empty where it is.

    Both are laid out by the sqlglot that is installed: what another version of it has laid out is
    no difference.
    """
    header, _, statement = read(name).partition("\n\n")
    was = f"{header}\n\n{formatted(statement) if statement else ''}"
    lines = was.splitlines(), text.splitlines()
    return "\n".join(unified_diff(*lines, f"{name}.sql", "what runs", lineterm=""))


def write(name: str, text: str) -> None:
    """Make `text` the golden one."""
    (HERE / f"{name}.sql").write_text(text, encoding="utf-8")
