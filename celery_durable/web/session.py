"""A viewer's session: a signed cookie, and the token by which a form is known to be of our page."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass, field

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

LONGEST_SESSION = 7 * 86400
"""Seconds after which a cookie is taken no more."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie of one browser says; `name` is None for one that has shown no token."""

    name: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Sessions:
    """Signs and reads the cookies of one page.

    They are signed with `secret`, and end when it changes. Its digest is in the cookie's name:
    browsers send the cookies of one host to all of its ports.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(secret.encode()).digest()
        self._signer = URLSafeTimedSerializer(self._key, salt="celery_durable.web.session")
        self.cookie = f"durable_{hashlib.sha256(self._key).hexdigest()[:8]}"

    def read(self, connection: HTTPConnection) -> Session | None:
        """The session of a request; None without a cookie of ours, or with one that is too old."""
        try:
            said = self._signer.loads(
                connection.cookies.get(self.cookie, ""), max_age=LONGEST_SESSION
            )
        except BadData:
            return None
        return Session(**said)

    def write(self, request: HTTPConnection, response: Response, session: Session) -> None:
        """Set the cookie; it is `Secure` where the page is opened by https."""
        response.set_cookie(
            self.cookie,
            self._signer.dumps(asdict(session)),
            max_age=LONGEST_SESSION,
            path=_path(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Delete the cookie."""
        response.delete_cookie(self.cookie, path=_path(request))

    def csrf_token(self, session: Session, viewer: str) -> str:
        """The token of the forms that this session and viewer are shown."""
        said = f"{session.id}\0{viewer}".encode()
        return hmac.new(self._key, b"csrf\0" + said, hashlib.sha256).hexdigest()


def _path(connection: HTTPConnection) -> str:
    return str(connection.scope.get("durable_root", "")) + "/"
