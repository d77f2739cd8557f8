"""Folders with a project in them, and `durable dev` in them."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.dev.running import IN_TERMINAL, Running, running

SHOP = """\
from celery import Celery

from celery_durable import Durable

app = Celery("shop")
durable = Durable(app)


@durable.step
def reserve(ctx):
    print("reserving", ctx.input)
    return {"reservation": ctx.input["item"]}


@durable.step
def charge(ctx):
    return {"charged": ctx.input["price"]}


order = durable.workflow("order").step(reserve).wait_for_signal("signoff").step(charge)
"""
"""All that there is: no settings, no broker, no database."""

DEV = (sys.executable, "-m", "celery", "-A", "shop", "durable", "dev")

URL = r"the page, for this computer only: (http://127\.0\.0\.1:(\d+)/login\?token=[\w-]+)$"


@contextmanager
def project(parent: Path | None = None) -> Iterator[Path]:
    """A folder with `shop.py` in it; by default one that everybody can reach.

    PostgreSQL does not run as root, and its user does not get into root's folders.
    """
    folder = Path(tempfile.mkdtemp(prefix="durable-dev-", dir=parent)) / "shop"
    if parent is None:
        folder.parent.chmod(0o755)
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    try:
        yield folder
    finally:
        shutil.rmtree(folder.parent)


def environment(own: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """That of a machine on which nothing is set but `own`."""
    names = ("DATABASE_URL", "DURABLE_", "CELERY_", "AMQP_URL", "REDIS_URL", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {**kept, **(own or {})}


@contextmanager
def dev(
    folder: Path,
    *options: str,
    terminal: bool = False,
    command: Sequence[str] = DEV,
    own: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """`durable dev` in a folder; `own` is its environment."""
    before = IN_TERMINAL if terminal else ()
    with running([*before, *command, *options], folder, environment(own)) as started:
        yield started


def wait_until_up(started: Running, *, again: bool = False) -> str:
    """Wait until worker, beat and page are ready; the URL of the page."""
    seen = started._seen
    for name in ("worker", "beat", "page"):
        started._seen = seen
        started.wait_for(rf"{name} +\| ready", again=again)
    return started.wait_for(URL)[1]


def database_of(started: Running) -> str:
    """The database that it says to others."""
    return started.wait_for(r"export DURABLE_DATABASE_URL='?([^'\n]+)")[1]
