"""Steps that raise what is no Exception, as code does that was written for a process of its own."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from celery.exceptions import WorkerShutdown

from celery_durable import Durable, GiveUp, RetryPolicy
from tests.apps import configure

TWICE = RetryPolicy(max_attempts=2, backoff="fixed", initial=0.01, jitter=False)


class OwnError(BaseException):
    pass


def complain() -> None:
    sys.exit("no such file")


def parse() -> None:
    argparse.ArgumentParser("tool", usage="tool").parse_args(["--what"])


def interrupt() -> None:
    raise KeyboardInterrupt("no such file")


def shut_down() -> None:
    raise WorkerShutdown("no such file")


def own() -> None:
    raise OwnError("no such file")


HOW: Mapping[str, tuple[Callable[[], None], str, str]] = {
    "exit": (complain, "SystemExit", "no such file"),
    "argparse": (parse, "SystemExit", "2"),
    "interrupt": (interrupt, "KeyboardInterrupt", "no such file"),
    "shutdown": (shut_down, "celery.exceptions.WorkerShutdown", "no such file"),
    "own": (own, "tests.apps.exits.OwnError", "no such file"),
}
"""What is done, and the type and the message of the failure it is."""


def fail(ctx: Any) -> None:
    HOW[ctx.input["how"]][0]()


async def fail_async(ctx: Any) -> None:
    await asyncio.sleep(0)
    fail(ctx)


def fork(ctx: Any) -> dict[str, int]:
    """Wait for a child of its own; how that exited."""
    child = os.fork()
    if child == 0:
        match ctx.input["child"]:
            case "exits":
                sys.exit(3)
            case "raises":
                raise OwnError("no such file")
            case _:
                return {"pid": os.getpid()}
    _, status = os.waitpid(child, 0)
    return {"child": os.waitstatus_to_exitcode(status)}


def booked(ctx: Any) -> None:
    fail(ctx)


def end(_ctx: Any) -> None:
    """As code does that ends its helpers and is one of them."""
    os.kill(os.getpid(), signal.SIGTERM)


def reserve(_ctx: Any) -> dict[str, int]:
    return {"pid": os.getpid()}


def decline(_ctx: Any) -> None:
    raise GiveUp("declined")


async def remember(ctx: Any) -> Any:
    """What an async step reads, writes and waits for, among others that do the same."""
    await asyncio.sleep(0.02)
    ctx.heartbeat({"read": ctx.results["reserve"]})
    await asyncio.sleep(0.02)
    return ctx.results["reserve"]


def define(durable: Durable) -> None:
    durable.workflow("sync").step(fail, retry=TWICE)
    durable.workflow("async").step(fail_async, retry=TWICE)
    durable.workflow("transactional").step(booked, retry=TWICE, transactional=True)
    undone = durable.step(name="reserve")(reserve)
    undone.compensate(retry=TWICE)(fail)
    durable.workflow("undone").step(undone).step(decline)
    durable.workflow("routed").route("rail", fail, {"wire": reserve})
    durable.workflow("ended").step(end)
    durable.workflow("forked").step(fork, retry=TWICE)
    durable.workflow("remembering").step(reserve).step(remember)


app = configure(Celery("exits"))
app.conf.durable_max_crashes = 2
durable = Durable(app)
define(durable)
