"""Virtual environments for the peers, made once and kept in `.bench/` of the project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT, ContenderFailed

FOLDER = ROOT / ".bench"

PACKAGES = {
    "dbos": ("dbos==3.4.0",),
    "absurd": ("absurd-sdk==0.5.1", "absurdctl==0.5.1"),
}
"""What each peer is, in the version whose best configuration is known."""

COMPLETE = "complete"
"""This file is written into an environment when all is installed, and says what."""


def python(peer: str) -> str:
    """The Python of the peer's environment, which is made if need be.

    Raises `ContenderFailed` if the peer cannot be installed.
    """
    packages, folder = PACKAGES[peer], FOLDER / peer
    interpreter, marker = folder / "bin" / "python", folder / COMPLETE
    wanted = f"{sys.version}\n{packages}\n"
    if marker.exists() and marker.read_text() == wanted:
        return str(interpreter)
    shutil.rmtree(folder, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    if uv := _uv():
        _run(peer, [uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run(peer, [uv, "pip", "install", "--quiet", "--python", str(interpreter), *packages])
    else:
        _run(peer, [sys.executable, "-m", "venv", str(folder)])
        _run(peer, [str(interpreter), "-m", "pip", "install", "--quiet", *packages])
    marker.write_text(wanted)
    return str(interpreter)


def _uv() -> str | None:
    """The uv beside our Python, or on the PATH."""
    return shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


def _run(peer: str, command: list[str]) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise ContenderFailed(f"{peer} was not installed within 300 s") from None
    if ended.returncode:
        words = " ".join((ended.stderr or ended.stdout).split())[-300:]
        raise ContenderFailed(f"{peer} cannot be installed: {words}")
