"""Says which Python files of the project have changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "watchfiles"

SETTLE_MS = 300
"""Milliseconds for which changes are gathered: an editor or git writes many files at once."""

ENVIRONMENTS = ("venv", "env", "virtualenv")
"""Folders of installed packages, besides those that watchfiles leaves out itself."""


def is_installed() -> bool:
    """True if changes can be noticed."""
    return find_spec(PACKAGE) is not None


async def changes(project: Path) -> AsyncIterator[Sequence[Path]]:
    """Yield the files that have changed, as paths in the project, each time that some have.

    Raises `OSError` if the system cannot watch so many folders.
    """
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - of an extra

    left_out = [project / name for name in (".durable", *ENVIRONMENTS)]
    only_python = PythonFilter(ignore_paths=left_out)
    async for found in awatch(project, watch_filter=only_python, debounce=SETTLE_MS, step=100):
        yield sorted({Path(path).relative_to(project) for _, path in found})
