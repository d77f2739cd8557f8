"""Times as people type them: how long ago, or in ISO 8601."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)


def moment(text: str, now: datetime, zone: tzinfo | None) -> datetime:
    """The time that `text` says: so long before `now` (`30m`, `2h`, `1d`), or in ISO 8601.

    One without a zone is in `zone`; None stands for that of this machine. Raises `ValueError`.
    """
    said = text.strip()
    try:
        if ago := AGO.fullmatch(said):
            return now - timedelta(seconds=float(ago[1]) * SECONDS[ago[2]])
        found = datetime.fromisoformat(said)
        if found.utcoffset() is None and zone is not None:
            return found.replace(tzinfo=zone)
        return found.astimezone()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither so long ago (30m, 2h, 1d) nor a time in ISO 8601."
        ) from None
