"""`durable web`."""

from __future__ import annotations

import secrets
import signal
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import quote

import click

from celery_durable.cli.application import durable_of
from celery_durable.cli.exit_codes import CliError, ExitCode

WITHOUT_WEB = 'The page needs the extra `web`. Run: pip install "celery-durable[web]"'


UNGUARDED = (
    "--host {} is open to others, and a token that is made at each start is for you alone. Set"
    " durable_web_token; or leave out --host, and put a proxy with TLS before it."
)

LEAVE_WITHIN = 3
"""Seconds that answers which are under way have, once the page is to end."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5556,
    show_default=True,
    help="0: any that is free; the link names it.",
)
@click.option("--read-only", is_flag=True, help="Nobody acts; default: durable_web_read_only.")
@click.option(
    "--forwarded-allow-ips",
    metavar="ADDRESSES",
    help="Proxies whose X-Forwarded-For and -Proto are believed: 10.0.0.5,10.1.0.0/16.",
)
@click.pass_context
def web(
    ctx: click.Context,
    /,
    *,
    host: str,
    port: int,
    read_only: bool,
    forwarded_allow_ips: str | None,
) -> None:
    """Serve the web page until SIGINT or SIGTERM.

    Prints a link that opens it. Its token is durable_web_token, or a new one at each start.
    """
    durable = durable_of(ctx)
    try:
        import uvicorn  # noqa: PLC0415 - it comes with the extra

        from celery_durable.web import create_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CliError(WITHOUT_WEB, ExitCode.USAGE) from error
    known = durable.settings.web_token
    if known is None and not _is_loopback(host):
        raise CliError(UNGUARDED.format(host), ExitCode.USAGE)
    token = known or secrets.token_urlsafe(32)
    app = create_app(durable, token=token, read_only=read_only or None)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,  # it would hold the token
        server_header=False,
        proxy_headers=forwarded_allow_ips is not None,
        forwarded_allow_ips=forwarded_allow_ips,
        timeout_graceful_shutdown=LEAVE_WITHIN,
    )
    sockets = None
    if port == 0:  # any that is free
        sockets = [config.bind_socket()]
        port = sockets[0].getsockname()[1]
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    # Who has set the token knows it; a log should not.
    click.echo(f"http://{netloc}/{'' if known else f'login?token={quote(token)}'}")
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn sends it once more, when it has ended
    with suppress(KeyboardInterrupt):  # and SIGINT
        uvicorn.Server(config).run(sockets)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
