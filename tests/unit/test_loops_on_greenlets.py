"""Coroutines in a process of gevent's, which is one of its own here: it patches what all use."""

import subprocess
import sys

import pytest

pytest.importorskip("gevent")

PATCHED = "from gevent import monkey; monkey.patch_all()\n"


def printed_by(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PATCHED + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SIDE_BY_SIDE = """
import asyncio, gevent
from celery_durable.workflow import loops

met = []

async def meet():
    met.append(1)
    while len(met) < 2:
        await asyncio.sleep(0.001)
    return len(met)

async def fail():
    raise SystemExit("no such file")

both = [gevent.spawn(loops.run, meet(), "w.a") for _ in range(2)]
print(*[one.get(timeout=5) for one in both])
try:
    loops.run(fail(), "w.b")
except SystemExit as error:
    print(error.code.replace(" ", "-"))
"""


def test_coroutines_of_several_greenlets_wait_for_each_other() -> None:
    assert printed_by(SIDE_BY_SIDE) == ["2", "2", "no-such-file"]


KILLED = """
import asyncio, gevent
from celery_durable.workflow import loops

async def work():
    try:
        print("began", flush=True)
        began.append(1)
        await asyncio.sleep(60)
        print("ended")
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        over.append(1)
        raise

began, over = [], []
greenlet = gevent.spawn(loops.run, work(), "w.a")
with gevent.Timeout(5):
    while not began:
        gevent.sleep(0.001)
    greenlet.kill()
    while not over:
        gevent.sleep(0.001)
print(type(greenlet.value).__name__)
"""


def test_a_coroutine_whose_greenlet_is_killed_is_cancelled() -> None:
    assert printed_by(KILLED) == ["began", "cancelled", "GreenletExit"]
