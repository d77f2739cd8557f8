"""What a process counts, until it is written down."""

from concurrent.futures import ThreadPoolExecutor

from celery_durable.process.tally import Tally


def test_counts_are_taken_once() -> None:
    tally = Tally()
    tally.add("a", "x")
    tally.add("a", "x", by=2.5)
    tally.add("a", "y")
    assert tally.take() == {("a", ("x",)): 3.5, ("a", ("y",)): 1}
    assert tally.take() == {}


def test_what_is_put_back_is_added_to_what_was_counted_meanwhile() -> None:
    tally = Tally()
    tally.add("a")
    taken = tally.take()
    tally.add("a")
    tally.put_back(taken)
    assert tally.take() == {("a", ()): 2}


def test_threads_lose_no_count() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(5000):
            tally.add("a")

    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(count)
    assert tally.take() == {("a", ()): 40_000}
