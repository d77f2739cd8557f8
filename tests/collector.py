"""A server in the process of the tests that gets what workers export: spans by OTLP over HTTP, and
the envelopes of Sentry's SDK.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from sentry_sdk.envelope import Envelope

from tests.waiting import wait_until

ERROR = trace_pb2.Status.STATUS_CODE_ERROR
KINDS = trace_pb2.Span.SpanKind

SENT_WITHIN = 20.0
"""Seconds within which what has been done is exported."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span as a collector gets it."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    about: Mapping[str, Any]
    links: tuple[str, ...]
    """The ids of the spans that it is linked to."""
    is_error: bool


class Collector:
    """Keeps what is sent to it, and waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: list[tuple[str, bytes]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.keep(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def traces(self) -> str:
        """Where an exporter of spans sends to."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def dsn(self) -> str:
        """Where Sentry's SDK sends to."""
        return f"http://public@127.0.0.1:{self.port}/1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def keep(self, path: str, body: bytes) -> None:
        with self._lock:
            self._bodies.append((path, body))

    def _sent_to(self, part: str) -> list[bytes]:
        with self._lock:
            return [body for path, body in self._bodies if part in path]

    def text(self) -> bytes:
        """All bytes that have been sent."""
        return b"".join(self._sent_to("/"))

    def spans(self, name: str | None = None, **about: object) -> list[Span]:
        """The spans that have been sent, of this name and with these `durable.` attributes."""
        wanted = {f"durable.{key}": value for key, value in about.items()}
        return [
            span
            for body in self._sent_to("/v1/traces")
            for span in _spans_of(body)
            if name in (None, span.name) and wanted.items() <= span.about.items()
        ]

    def wait_for(self, name: str, times: int = 1, **about: object) -> list[Span]:
        """Wait until so many of these spans have been sent."""
        wait_until(
            lambda: len(self.spans(name, **about)) >= times,
            timeout=SENT_WITHIN,
            message=lambda: f"{times} x {name} {about}: {[one.name for one in self.spans()]}",
        )
        return self.spans(name, **about)

    def envelopes(self, kind: str, **tags: str) -> list[dict[str, Any]]:
        """Sentry's events (`event`) or transactions that have these `durable.` tags."""
        wanted = {f"durable.{key}": value for key, value in tags.items()}
        return [
            found
            for body in self._sent_to("/envelope/")
            for item in Envelope.deserialize(body).items
            if item.type == kind and (found := item.payload.json) is not None
            if wanted.items() <= (found.get("tags") or {}).items()
        ]


def _spans_of(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for one in scope.spans:
                yield Span(
                    name=one.name,
                    kind=KINDS.Name(one.kind).removeprefix("SPAN_KIND_"),
                    trace_id=one.trace_id.hex(),
                    span_id=one.span_id.hex(),
                    parent_id=one.parent_span_id.hex(),
                    about={each.key: _value_of(each.value) for each in one.attributes},
                    links=tuple(link.span_id.hex() for link in one.links),
                    is_error=one.status.code == ERROR,
                )


def _value_of(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for as long as the block lasts."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()
