"""Forks Celery's processes from one that has imported what each of them would import.

Runs as a program of its own, in the working directory and with the PYTHONPATH of the processes.
It ends with its standard input, and what it has forked dies with it. Processes are asked for in two
ways:

- A line of JSON on the standard input is answered with one on the standard output: a `Birth` with
  the id of the new process, an id with how that process has ended, or null.
- Whoever connects to its door, a socket whose file number is its first argument, sends a `Command`
  with the streams that this is to have. Signals that follow, a byte each, are passed on to the
  command. Its exit code comes back; it dies with the connection.

The second argument may be a pool that patches modules before others import them: gevent. What is
used here was imported before.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from os import fork, waitpid
from pathlib import Path
from select import select
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
    "celery_durable.cli",
    "celery_durable.durable",
    "celery_durable.worker.bootsteps",
    "kombu.transport.pyamqp",
    "kombu.transport.redis",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.orm",
)

LONGEST_COMMAND = 1_000_000


class Birth(TypedDict):
    """``python -m celery`` with these words; what it prints goes to the file `log`."""

    words: list[str]
    env: dict[str, str]
    log: str


class Command(TypedDict):
    """``celery`` with these words, as typed in the folder `cwd`."""

    words: list[str]
    env: dict[str, str]
    cwd: str


def main(door: socket.socket, pool: str | None = None) -> None:
    sys.path[0] = str(Path.cwd())  # as `python -m` has it
    if pool == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        ready, _, _ = select([sys.stdin, door], [], [])
        if door in ready:
            admit(door)
        elif not answered(door):
            return


def answered(door: socket.socket) -> bool:
    """Answer a line of the standard input; False at its end."""
    line = sys.stdin.readline()
    if line:
        request: Birth | int = json.loads(line)
        answer = exit_code(request) if isinstance(request, int) else born(request, door)
        print(json.dumps(answer), flush=True)  # noqa: T201 - to whoever asked
    return bool(line)


def exit_code(pid: int) -> int | None:
    """The exit code; negative is the signal that ended it. None while it runs."""
    ended, how = waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(how) if ended else None


def born(birth: Birth, door: socket.socket) -> int:
    """The id of a new process."""
    nursery = os.getpid()
    pid = fork()
    if not pid:
        door.close()
        log = os.open(birth["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        die_with(nursery)
        sys.argv[0] = str(sys.modules["celery.__main__"].__file__)
        live(birth["words"], birth["env"], [os.open(os.devnull, os.O_RDONLY), log, log])
    return pid


def admit(door: socket.socket) -> None:
    """Fork a process that looks after the command of whoever has connected."""
    connection, _ = door.accept()
    if between := fork():
        waitpid(between, 0)
        connection.close()
        return
    if fork():  # so that nobody has to wait for the other
        os._exit(0)
    door.close()
    os.setsid()
    look_after(connection)


def look_after(connection: socket.socket) -> NoReturn:
    """Fork the command, and be its parent."""
    asked, streams, _, _ = socket.recv_fds(connection, LONGEST_COMMAND, 3)
    command: Command = json.loads(asked)
    guardian = os.getpid()
    pid = fork()
    if not pid:
        connection.close()
        die_with(guardian)
        os.chdir(command["cwd"])
        sys.argv[0] = "celery"
        live(command["words"], command["env"], streams)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(pid)
    while ended not in select([connection.fileno(), ended], [], [])[0]:
        number = connection.recv(1)
        strike(pid, number[0] if number else signal.SIGKILL)
        if not number:
            os._exit(1)
    code = os.waitstatus_to_exitcode(waitpid(pid, 0)[1])
    with suppress(OSError):
        connection.send(str(code).encode())
    os._exit(0)


def strike(pid: int, number: int) -> None:
    """Send a signal to a command and what it has forked, as a terminal does."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # it does not lead a group yet
        os.kill(pid, number)


def die_with(parent: int) -> None:
    """Lead a group of one's own, and be killed when the parent dies."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was armed
        os._exit(1)


def live(words: Sequence[str], env: dict[str, str], streams: Sequence[int]) -> NoReturn:
    """Be the process that a shell would have started."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in {*streams}:
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    known = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in known if folder and folder not in sys.path]
    sys.argv[1:] = words
    sys.exit(sys.modules["celery.__main__"].main())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:])
