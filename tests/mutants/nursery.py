"""Forks the process of each trial from one that has imported what every trial imports.

Runs as a program of its own, from a copy beside the project's, and imports nothing of ours: what
is under test is imported in the fork, from the trial's copy. `runner` gives it a listening socket
and the names of modules. Whoever connects sends one line of JSON, a `Request`, and is answered
with the exit code of pytest, or null if the time limit was reached. Whoever hangs up before that
ends the trial. The nursery ends when its standard input does.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn, TypedDict

import psutil
import pytest

POLL_SECONDS = 0.01


class Request(TypedDict):
    """A run of pytest."""

    root: str
    arguments: list[str]
    env: dict[str, str]
    output: str
    seconds: float
    teardown_seconds: float


def main(listening: int, *modules: str) -> None:
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers of trials
    with socket.socket(fileno=listening) as listener:
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                break
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                keep(connection)
            connection.close()
    with suppress(ChildProcessError):
        os.wait()  # for all of them, since SIGCHLD is ignored


def keep(connection: socket.socket) -> NoReturn:
    """Run one trial in a fork of this process, and leave nothing of it behind."""
    request: Request = json.loads(connection.makefile().readline())
    if (child := os.fork()) == 0:
        connection.close()
        run(request)
    answer = exit_code(child, connection, request["seconds"])
    if answer is None:
        os.kill(child, signal.SIGINT)  # fixtures are torn down
        if exit_code(child, None, request["teardown_seconds"]) is None:
            trial = psutil.Process(child)
            for process in [*trial.children(recursive=True), trial]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    with suppress(OSError):
        connection.sendall(json.dumps(answer).encode())
    os._exit(0)


def exit_code(child: int, connection: socket.socket | None, seconds: float) -> int | None:
    """The exit code of the trial; None if it goes on for too long, or nobody asks any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, how = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(how)
        if any(select.select([connection] if connection else [], [], [], POLL_SECONDS)):
            return None
    return None


def run(request: Request) -> NoReturn:
    """Be the process of pytest that a shell would have started in the trial's copy."""
    os.setsid()
    os.chdir(request["root"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["root"]
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.exit(pytest.main(request["arguments"]))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
