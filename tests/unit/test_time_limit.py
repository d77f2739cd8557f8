"""Every test has a time limit, in every worker of pytest-xdist."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.addresses import ROOT

HANGS = """\
import threading
from pathlib import Path

import pytest

from tests.cluster import LocalProcess


@pytest.fixture
def process(tmp_path):
    process = LocalProcess(["sleep", "600"], name="sleep", directory=tmp_path)
    process.start()
    Path("pid").write_text(str(process.pid))
    yield process
    process.end()


def test_that_hangs(process):
    threading.Event().wait()


def test_after_it():
    pass
"""


def test_every_test_has_a_time_limit(pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) <= 120


def test_a_test_that_hangs_fails_alone_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1\n")
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_timeout", "-n", "1"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 failed, 1 passed" in ended.stdout, ended.stdout
    assert "Timeout (>1.0s) from pytest-timeout" in ended.stdout
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
