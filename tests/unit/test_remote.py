"""Commands of remote control are there where an app has a Durable, and nowhere else."""

import subprocess
import sys

CODE = """
from celery import Celery
from celery.worker.control import Panel
from celery_durable import Durable
ours = lambda: sorted(name for name in Panel.data if name.startswith("durable"))
durable = Durable()
assert ours() == [], ours()
durable.init_app(Celery("a"))
found = {name: Panel.meta[name].type for name in ours()}
assert found == {
    "durable": "inspect",
    "durable_pause_workflow": "control",
    "durable_unpause_workflow": "control",
}, found
Durable(Celery("b"))
assert len(ours()) == 3
"""


def test_the_commands_come_with_the_durable_of_an_app() -> None:
    """In a process of its own: Celery has one panel for all apps of a process."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
