"""Forks Celery's processes from one that has imported what each of them would import.

Runs as a program of its own, in the working directory and with the PYTHONPATH of the processes,
and answers each line of JSON on its standard input with one on its standard output: a `Birth` with
the id of the new process, an id with how that process has ended, or null. It ends with its standard
input, and what it has forked dies with it.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn, TypedDict

PR_SET_PDEATHSIG = 1

PRELOADED = (
    "celery.__main__",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "celery_durable",
    "celery_durable.durable",
    "celery_durable.worker.bootsteps",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.orm",
)


class Birth(TypedDict):
    """``python -m celery`` with these words; what it prints goes to the file `log`."""

    words: list[str]
    env: dict[str, str]
    log: str


def main() -> None:
    sys.path[0] = str(Path.cwd())  # as `python -m` has it
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        request: Birth | int = json.loads(line)
        answer = exit_code(request) if isinstance(request, int) else born(request)
        print(json.dumps(answer), flush=True)  # noqa: T201 - to whoever asked


def exit_code(pid: int) -> int | None:
    """The exit code; negative is the signal that ended it. None while it runs."""
    ended, how = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(how) if ended else None


def born(birth: Birth) -> int:
    """The id of a new process."""
    nursery = os.getpid()
    return os.fork() or live(birth, nursery)


def live(birth: Birth, nursery: int) -> NoReturn:
    """Be the process that a shell would have started."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:  # it died before the signal was armed
        os._exit(1)
    log = os.open(birth["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(birth["env"])
    celery = sys.modules["celery.__main__"]
    sys.argv = [str(celery.__file__), *birth["words"]]
    sys.exit(celery.main())


if __name__ == "__main__":
    main()
