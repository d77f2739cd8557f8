"""What a small example stands on: Postgres, a broker, and one worker; nothing of it is left.

`DURABLE_DATABASE_URL` and `CELERY_BROKER_URL` are honoured; what is missing of them is an embedded
Postgres, on which kombu's pgmq transport is the broker. In what was given, an example has a schema,
a queue and a key prefix of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import psycopg
import sqlalchemy as sa
from celery import Celery
from kombu.exceptions import OperationalError

from celery_durable import Durable, DurableError
from celery_durable.testing.embedded import EmbeddedPostgres, install_pgmq, pgmq_broker
from examples.demo.broker import Broker, Redis
from examples.demo.signals import blocked, ignore, listen

CONF = "EXAMPLE_CONF"
READY_SECONDS = 60
GRACE_SECONDS = 1.5
"""For the worker to end by itself; it has nothing left to do."""

LOG_LINES = 25

# The shell becomes the worker and leaves a child behind that reads from us. The end of the file
# means that we are gone, however we went; then the whole group goes.
LAUNCHER = """
exec 3<&0 </dev/null
{ read -r never <&3; kill -KILL -$$; } &
exec "$@" 3<&-
"""


def perform(program: Callable[[], None]) -> NoReturn:
    """Run an example: Ctrl-C ends it in good order, and a service that is not there is named."""
    listen()
    try:
        program()
    except (DurableError, OperationalError, psycopg.Error, sa.exc.SQLAlchemyError) as error:
        sys.exit(f"  The example could not be run: {error}")
    sys.exit()


def configure(app: Celery, conf: Mapping[str, Any] | None = None) -> None:
    """Where this example's Postgres and broker are; a worker finds it in its environment."""
    app.conf.update(conf or json.loads(os.environ.get(CONF, "{}")))


@contextmanager
def set_up(app: Celery, durable: Durable, module: str) -> Iterator[sa.Engine]:
    """A migrated schema for `durable`, and a worker on `module`; an engine for the tables of the
    example's own.
    """
    name = f"durable_example_{secrets.token_hex(4)}"
    with ExitStack() as stack:
        with blocked():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="celery-durable-")))
        conf = _conf(name, stack)
        configure(app, conf)
        if (broker := _given_broker(app, conf, name)) is not None:
            broker.check()
            stack.callback(broker.close)
        engine = stack.enter_context(_schema(durable, name))
        stack.enter_context(_worker(module, conf, folder))
        stack.callback(ignore)
        yield engine


def _conf(name: str, stack: ExitStack) -> dict[str, Any]:
    database, broker = (
        os.environ.get("DURABLE_DATABASE_URL"),
        os.environ.get("CELERY_BROKER_URL"),
    )
    own = "" if database and broker else stack.enter_context(EmbeddedPostgres()).url()
    # What names no schema is in ours: the library's tables, and the example's.
    url = sa.make_url(database or own).update_query_dict({"options": f"-csearch_path={name}"})
    conf: dict[str, Any] = {
        "durable_database_url": url.render_as_string(hide_password=False),
        "durable_schema": name,
        "durable_queue": name,
        "broker_connection_retry_on_startup": True,
        "worker_enable_remote_control": False,
    }
    if not broker:
        install_pgmq(own)
        return conf | pgmq_broker(own)
    is_redis = broker.startswith(("redis://", "rediss://"))
    options = {"global_keyprefix": f"{name}:"} if is_redis else {}
    return conf | {"broker_url": broker, "broker_transport_options": options}


def _given_broker(app: Celery, conf: Mapping[str, Any], name: str) -> Broker | None:
    if not os.environ.get("CELERY_BROKER_URL"):
        return None
    prefix = conf["broker_transport_options"].get("global_keyprefix")
    return Redis(app, name, prefix) if prefix else Broker(app, name)


@contextmanager
def _schema(durable: Durable, name: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(durable.settings.database_url, isolation_level="AUTOCOMMIT")
    try:
        durable.migrate()
        yield engine
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text("SET lock_timeout = '5s'"))
            connection.execute(sa.schema.DropSchema(name, cascade=True, if_exists=True))
        engine.dispose()


@contextmanager
def _worker(module: str, conf: Mapping[str, Any], folder: Path) -> Iterator[None]:
    celery = [sys.executable, "-m", "celery", "-A", module, "worker", "-Q", conf["durable_queue"]]
    options = ["-n", "example@%h", "-P", "prefork", "-c", "2", "-l", "INFO"]
    quick_start = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = folder / "worker.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", LAUNCHER, "sh", *celery, *options, *quick_start],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=_environment(conf, folder),
            start_new_session=True,  # Ctrl-C is for us alone
        )
    try:
        _wait_until_ready(process, log)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _environment(conf: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Ours, with what the app needs and without what would set Celery's options."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    path = [str(Path(__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
    given = {CONF: json.dumps(conf), "PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(folder)}
    return {**kept, **given, "PYTHONDONTWRITEBYTECODE": "1"}


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while b" ready." not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > until:
            end = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise SystemExit("\n".join(["The worker did not start. Its log ends:", *end]))
        time.sleep(0.05)
