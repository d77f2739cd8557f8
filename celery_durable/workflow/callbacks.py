"""Links that answer one wait of one run: what they say, and their signature. Pure.

A link carries what it answers, signed by HMAC-SHA256 with a key made of `durable_web_secret`; there
is nothing to look up. It is for the next answer of a signal: once the run has taken that from
wherever, the link is over. Which answer that is, is a count: how many the run had taken before.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from celery_durable.core.claim import Claim
from celery_durable.errors import ConfigurationError, PayloadTooLarge

PATH = "callback"
"""The path of a link, below `durable_web_url`, is this and the link's text."""

LONGEST = 1_500
"""Most bytes of what a link says: mail programs break longer addresses."""

PURPOSE = b"celery_durable callback 1"
"""Parts this signature from all others with the same secret."""

WAIT = "#wait:"


def key_of_wait(wait: int) -> str:
    """The key of the signal that answers the wait before which `wait` answers were taken.

    All links and forms for one wait share it: so it is answered once.
    """
    return f"{WAIT}{wait}"


def wait_of_key(key: str | None) -> int | None:
    """The number of the wait that a signal with this key answers; None for any other key."""
    number = key.removeprefix(WAIT) if key is not None and key.startswith(WAIT) else ""
    return int(number) if number.isdecimal() and number.isascii() else None


@dataclass(frozen=True, slots=True)
class Callback:
    """What a link answers: the signal of a run, for a wait.

    `unit` is the unit that waits, if it is known. `wait` is how many answers were taken before;
    None for a link with a `key` of its own, which is the signal's. `data`, JSON text, is the
    answer; None where the person gives it. The link is good until `expires_at`.
    """

    run_id: UUID
    signal: str
    unit: str | None = None
    wait: int | None = None
    key: str | None = None
    expires_at: datetime | None = None
    data: str | None = None

    @property
    def signal_key(self) -> str:
        """The key of the signal that the answer is."""
        return self.key if self.wait is None and self.key else key_of_wait(self.wait or 0)


def signed(callback: Callback, secret: str) -> str:
    """Return the text of a link. Raises `PayloadTooLarge` if it says too much."""
    fields = {
        "r": callback.run_id.hex,
        "s": callback.signal,
        "u": callback.unit,
        "w": callback.wait,
        "k": callback.key,
        "e": None if callback.expires_at is None else callback.expires_at.timestamp(),
        "d": callback.data,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    body = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > LONGEST:
        what = f"what the link for the signal {callback.signal!r} says"
        raise PayloadTooLarge(what, len(body), LONGEST, None)
    return f"{_text(body)}.{_text(_signature(body, secret))}"


def read(text: str, secret: str) -> Callback | None:
    """Return what a link says; None if its signature is not ours."""
    encoded, _, signature = text.partition(".")
    body, given = _bytes(encoded), _bytes(signature)
    if body is None or given is None:
        return None
    if not hmac.compare_digest(_signature(body, secret), given):
        return None
    # There is one text for each link: base64 has several for the same bytes.
    if text != f"{_text(body)}.{_text(given)}":
        return None
    said: dict[str, Any] = json.loads(body)
    expires = said.get("e")
    return Callback(
        run_id=UUID(hex=said["r"]),
        signal=said["s"],
        unit=said.get("u"),
        wait=said.get("w"),
        key=said.get("k"),
        expires_at=None if expires is None else datetime.fromtimestamp(expires, UTC),
        data=said.get("d"),
    )


def _signature(body: bytes, secret: str) -> bytes:
    key = hmac.digest(secret.encode(), PURPOSE, hashlib.sha256)
    return hmac.digest(key, body, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None


class Link(Protocol):
    """Makes links for a unit: what `ctx.callback_url` needs of the engine."""

    def __call__(
        self,
        signal: str,
        *,
        data: tuple[object] | None,
        expires: float | None,
        key: str | None,
    ) -> str:
        """Return the URL. `data` is in a tuple; `expires` is in seconds."""
        ...


def cannot_link(workflow: object, claim: Claim, signal: str, **_: object) -> str:  # noqa: ARG001
    """Refuse every link: there are no settings."""
    raise ConfigurationError(
        f"{claim.token.unit!r} is executed without an app, so that there is no link for the signal"
        f" {signal!r}."
    )
