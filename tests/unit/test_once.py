"""What an object makes once, whichever thread asks first."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from celery_durable.process.once import once
from tests.waiting import wait_until

THREADS = 8


class Maker:
    """Its first value takes as long as its test says."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.made = 0

    @once
    def slow(self) -> object:
        """A value."""
        self.made += 1
        self.go_on.wait(20)
        return object()

    @once
    def of_another(self) -> object:
        return self.slow


def test_threads_that_ask_at_once_get_one_value() -> None:
    maker = Maker()

    def ask(_: int) -> object:
        maker.asked.release()
        return maker.slow

    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(ask, range(THREADS))
        for _ in range(THREADS):
            assert maker.asked.acquire(timeout=20)
        maker.go_on.set()
        assert len({id(one) for one in found}) == 1
    assert maker.made == 1


def test_it_may_ask_for_another_and_is_found_in_the_object() -> None:
    maker = Maker()
    maker.go_on.set()
    assert "slow" not in vars(maker)
    assert maker.of_another is maker.slow is vars(maker)["slow"]
    assert Maker.slow.__doc__ == "A value."


def test_what_fails_is_made_again() -> None:
    class Fails:
        tries = 0

        @once
        def value(self) -> int:
            self.tries += 1
            if self.tries == 1:
                raise OSError("not yet")
            return self.tries

    fails = Fails()
    with pytest.raises(OSError, match="not yet"):
        _ = fails.value
    assert fails.value == fails.value == 2


def test_a_child_that_is_forked_while_a_value_is_made_makes_its_own() -> None:
    maker = Maker()
    with ThreadPoolExecutor(1) as pool:
        at_work = pool.submit(lambda: maker.slow)
        wait_until(lambda: maker.made == 1)
        child = os.fork()
        if child == 0:
            maker.go_on.set()
            os._exit(0 if maker.slow and maker.made == 2 else 1)
        try:
            wait_until(
                lambda: os.waitpid(child, os.WNOHANG) == (child, 0), timeout=5, message="the child"
            )
        finally:
            maker.go_on.set()
        assert at_work.result(20)
