"""Forks the process of each trial from one that has imported what every trial imports.

Runs as a program of its own, from a copy beside the project's, and imports nothing of ours. A
`Nursery` says what it does first: it imports modules of other projects, and whatever is under test
is imported in the fork, from the trial's copy. Or it collects the tests too, in the unmutated copy;
then a fork replaces the one function that the mutant is in, and runs its tests at once.

`forks` gives it a listening socket. Whoever connects sends one line of JSON, a `Request`, and is
answered with the exit code of pytest, or null if the time limit was reached. Whoever hangs up
before that ends the trial. The nursery ends when its standard input does.
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
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import TypedDict

import psutil
import pytest

POLL_SECONDS = 0.01


class Nursery(TypedDict):
    """What is done before the first trial: `tests` are collected, if there are any."""

    root: str
    modules: list[str]
    arguments: list[str]
    tests: list[str]
    env: dict[str, str]


class Patch(TypedDict):
    """The source of a file, of which one function is to be taken."""

    file: str
    function: str
    source: str


class Request(TypedDict):
    """A run of pytest."""

    root: str
    arguments: list[str]
    tests: list[str]
    env: dict[str, str]
    patch: Patch | None
    output: str
    seconds: float
    teardown_seconds: float


def main(listening: int, nursery: Nursery) -> None:
    for name in nursery["modules"]:
        with suppress(ImportError):
            importlib.import_module(name)
    with socket.socket(fileno=listening) as listener:
        if nursery["tests"]:
            be_in(nursery["root"], nursery["env"])
            arguments = ["--capture=no", *nursery["arguments"], *nursery["tests"]]
            sys.exit(pytest.main(arguments, plugins=[Collected(listener)]))
        request = next_request(listener)
        be_in(request["root"], request["env"])
        sys.exit(pytest.main([*request["arguments"], *request["tests"]]))


class Collected:
    """A plugin of pytest: each trial goes on in a fork, with the tests that it names."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        if session.testsfailed:
            return  # as it was collected: pytest says so and ends
        functions = functions_in(session.config.rootpath.as_posix())
        request = next_request(self._listener)
        os.environ.update(request["env"])
        named = request["tests"]
        session.config.args[:] = named
        session.items[:] = [item for item in session.items if is_named(item.nodeid, named)]
        if (patch := request["patch"]) is not None:
            replace(patch, functions[patch["file"], patch["function"]])


def is_named(test: str, named: list[str]) -> bool:
    """Whether a test is named, or its function, class or file is."""
    return any(test == name or test.startswith((f"{name}[", f"{name}::")) for name in named)


def functions_in(root: str) -> dict[tuple[str, str], list[FunctionType]]:
    """Every function that was made of a file below `root`, by its file and qualified name."""
    found: dict[tuple[str, str], list[FunctionType]] = {}
    gc.unfreeze()
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename.startswith(root):
            place = each.__code__.co_filename, each.__code__.co_qualname
            found.setdefault(place, []).append(each)
    return found


def replace(patch: Patch, functions: list[FunctionType]) -> None:
    """Let the functions do what the source says, whoever holds them and whatever wraps them."""
    module = compile(patch["source"], patch["file"], "exec", dont_inherit=True)
    (code,) = (each for each in codes_in(module) if each.co_qualname == patch["function"])
    for function in functions:
        function.__code__ = code


def codes_in(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from codes_in(each)


def next_request(listener: socket.socket) -> Request:
    """The next trial, in a fork for each; the process that forks them returns never."""
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)  # a trial is short
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers of trials
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            break
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return keep(connection)
        connection.close()
    with suppress(ChildProcessError):
        os.wait()  # for all of them, since SIGCHLD is ignored
    os._exit(0)


def keep(connection: socket.socket) -> Request:
    """Fork one trial, which is where this returns, and leave nothing of it behind."""
    request: Request = json.loads(connection.makefile().readline())
    if (child := os.fork()) == 0:
        connection.close()
        begin(request["output"])
        return request
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


def begin(output: str) -> None:
    """Be a process of one's own, that says all it has to say into a file."""
    os.setsid()
    to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(to, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def be_in(root: str, env: dict[str, str]) -> None:
    """Have the working directory, the path and the environment of a process started there."""
    os.chdir(root)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = root


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
