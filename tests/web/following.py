"""A page's stream of events, as a browser reads it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.waiting import PATIENCE


@dataclass(frozen=True)
class Event:
    """One event."""

    name: str
    data: str


@contextmanager
def following(client: httpx.Client, path: str) -> Iterator[Iterator[Event]]:
    """The events of a stream, each as soon as it comes; comments are left out."""
    timeout = httpx.Timeout(PATIENCE)
    with client.stream("GET", path, timeout=timeout) as response:
        assert response.status_code == 200, response.status_code
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation"""
    name, data, until = "", list[str](), time.monotonic() + PATIENCE
    for line in lines:
        assert time.monotonic() < until, "no event comes, only comments"
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if name:
                yield Event(name, "\n".join(data))
                until = time.monotonic() + PATIENCE
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


def events_of(text: str) -> Sequence[Event]:
    """The events in the text of a stream."""
    return list(_events(iter(re.split("\r\n|\r|\n", text))))
