"""Receivers of our signals under test: they note what they hear, and are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery_durable import signals
from celery_durable.signals import Signal

SIGNALS: dict[str, Signal] = {
    name: getattr(signals, name)
    for name in (
        *("run_started", "run_completed", "run_failed", "run_cancelled", "run_paused"),
        *("unit_failed", "unit_retried"),
    )
}


class Heard(list[tuple[str, dict[str, Any]]]):
    """The signals that were sent, in order: the name of each, and its arguments."""

    def names(self) -> list[str]:
        return [name for name, _ in self]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [arguments for heard, arguments in self if heard == name]

    def the(self, name: str) -> dict[str, Any]:
        (one,) = self.of(name)
        return one


@contextmanager
def hearing(
    *names: str, also: Callable[[], object] = lambda: None, sender: str | None = None
) -> Iterator[Heard]:
    """Note the signals of these names, by default all; `also` is called by each receiver."""
    heard = Heard()
    connected: list[tuple[Signal, Any]] = []
    for name in names or SIGNALS:

        def receive(name: str = name, **arguments: Any) -> None:
            arguments.pop("signal")
            heard.append((name, arguments))
            also()

        SIGNALS[name].connect(receive, sender=sender, weak=False)
        connected.append((SIGNALS[name], receive))
    try:
        yield heard
    finally:
        for signal, receiver in connected:
            assert signal.disconnect(receiver, sender=sender)
