"""`durable metrics`."""

from __future__ import annotations

import logging
import re
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click

from celery_durable.cli.application import durable_of
from celery_durable.cli.exit_codes import CliError, ExitCode
from celery_durable.durable import Durable
from celery_durable.errors import DurableError
from celery_durable.view.instruments import observe
from celery_durable.view.metrics import CONTENT_TYPE, exposition

logger = logging.getLogger(__name__)

REQUEST_WITHIN = 10.0
"""Seconds that a request, or the reader of an answer, may take."""


_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]*):)?(?P<port>\d{1,5})")
HIGHEST_PORT = 65535


def _parse_address(
    _: click.Context, __: click.Parameter, text: str | None
) -> tuple[str, int] | None:
    """Read HOST:PORT; the host may be left out, which is this machine alone."""
    if text is None:
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > HIGHEST_PORT:
        raise click.BadParameter(
            f"{text!r} is no address such as 127.0.0.1:9540, [::1]:9540 or :9540."
        )
    return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"])


@click.command()
@click.option(
    "--listen",
    callback=_parse_address,
    metavar="HOST:PORT",
    help="Serve them at /metrics until SIGINT or SIGTERM, to whoever reaches this address.",
)
@click.pass_context
def metrics(ctx: click.Context, /, *, listen: tuple[str, int] | None) -> None:
    """Print the metrics of all processes, as Prometheus reads them.

    What workers have counted, and what the tables tell now; docs/reference/telemetry.md explains
    each. One process answers for all workers. With --listen it is also the one that OpenTelemetry's
    meter provider, if there is one, observes.
    """
    durable = durable_of(ctx)
    if listen is None:
        click.echo(exposition(durable), nl=False)
        return
    server = server_at(durable, listen)
    host, port = server.server_address[:2]
    shown = f"[{host!s}]" if ":" in str(host) else str(host)
    click.echo(f"Metrics are at http://{shown}:{port}/metrics")
    observe(durable)
    _serve_until_stopped(server)


class Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own, which does not hold up the end."""

    daemon_threads = True

    def __init__(self, durable: Durable, address: tuple[str, int]) -> None:
        self.durable = durable
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    timeout = REQUEST_WITHIN

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, "The metrics are at /metrics.\n", "text/plain; charset=utf-8")
            return
        try:
            assert isinstance(self.server, Server)
            self._answer(200, exposition(self.server.durable), CONTENT_TYPE)
        except DurableError as error:
            logger.warning("The metrics cannot be read: %s", error)
            self._answer(503, f"{error}\n", "text/plain; charset=utf-8")

    def _answer(self, status: int, text: str, content_type: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request: there is one every few seconds."""


def server_at(durable: Durable, address: tuple[str, int]) -> Server:
    """Listen at an address; raise `CliError` if that cannot be."""
    try:
        return Server(durable, address)
    except OSError as error:
        host, port = address
        raise CliError(f"Nothing can listen at {host}:{port}: {error}", ExitCode.USAGE) from error


def _serve_until_stopped(server: Server) -> None:
    """Serve until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with server:
        server.serve_forever()
