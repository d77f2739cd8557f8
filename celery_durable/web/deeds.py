"""What an operator may do to a run: its words, the fields of its form, and the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery_durable.arguments import checked_signal
from celery_durable.durable import Durable
from celery_durable.errors import ConfigurationError
from celery_durable.view.formatting import shortened
from celery_durable.view.signalling import read_signalling
from celery_durable.view.typed import MOST_DIGITS, json_of, whole_of

LONGEST_SHOWN = 60
"""Characters of what was typed that a refusal repeats."""


class Fields:
    """What was typed into a form, and by whom. An empty field is one that says nothing."""

    def __init__(self, typed: Mapping[str, object], who: str = "") -> None:
        self.who = who
        self.texts = {name: text for name, text in typed.items() if isinstance(text, str)}

    def text(self, name: str) -> str | None:
        """The text of a field; None for an empty one."""
        return self.texts.get(name, "").strip() or None

    def flag(self, name: str) -> bool:
        """True if a box is ticked."""
        return name in self.texts

    def whole(self, name: str) -> int | None:
        """The whole number in a field; None for an empty one. Raises `ConfigurationError`."""
        text = self.text(name)
        if text is None:
            return None
        number = whole_of(text)
        if number is None:
            raise ConfigurationError(
                f"{name} takes a whole number of at most {MOST_DIGITS} digits, not"
                f" {shortened(text, LONGEST_SHOWN)!r}."
            )
        return number

    def json(self, name: str) -> Any:
        """The value of a field of JSON; None for an empty one. Raises `ConfigurationError`."""
        text = self.text(name)
        try:
            return None if text is None else json_of(text)
        except ValueError as error:
            raise ConfigurationError(
                f'The {name} is not JSON: {error}. A string needs its own quotes, as in "text".'
            ) from error


class NothingWaits(ConfigurationError):
    """No wait of the run takes the signal: it is sent if the viewer insists."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One action. `do` returns the run to show then, if it is another."""

    title: str
    text: str
    fields: tuple[str, ...]
    do: Callable[[Durable, UUID, Fields], UUID | None]
    is_dangerous: bool = False


def _cancel(durable: Durable, run_id: UUID, said: Fields) -> None:
    durable.cancel(run_id, compensate=said.flag("compensate"), reason=said.text("reason"))


def _retry(durable: Durable, run_id: UUID, said: Fields) -> UUID:
    return durable.retry(run_id, from_step=said.text("from_step")).id


def _retry_now(durable: Durable, run_id: UUID, said: Fields) -> None:
    durable.retry_now(run_id, said.text("unit"))


def _skip(durable: Durable, run_id: UUID, said: Fields) -> None:
    durable.skip(run_id, said.text("unit") or "", said.json("result"))


def _resume(durable: Durable, run_id: UUID, said: Fields) -> None:
    signal, data = checked_signal(said.text("signal") or ""), said.json("data")
    found = read_signalling(durable, run_id, signal)
    if (refusal := found.why_not(said.who)) is not None:
        raise ConfigurationError(refusal)
    if found.warning is not None and not said.flag("anyway"):
        raise NothingWaits(f"Nothing was sent: {found.warning}.")
    delivery = durable.resume(run_id, signal, data)
    if not delivery.accepted:
        raise ConfigurationError(f"The run does not take signals: {delivery.reason}.")


def _pause(durable: Durable, run_id: UUID, said: Fields) -> None:
    durable.pause(run_id, step=said.text("step"), reason=said.text("reason"))


def _unpause(durable: Durable, run_id: UUID, said: Fields) -> None:
    durable.unpause(run_id, step=said.text("step"))


def _retry_compensation(durable: Durable, run_id: UUID, _: Fields) -> None:
    durable.retry_compensation(run_id)


DEEDS: Mapping[str, Deed] = {
    "retry_now": Deed(
        "Try again now",
        "Units that wait for their next try, or are paused after it, are tried now.",
        ("unit", "reason"),
        _retry_now,
    ),
    "resume": Deed(
        "Send a signal",
        "The run goes on where it waits for the signal. It is kept until something does.",
        ("signal", "data", "reason", "anyway"),
        _resume,
    ),
    "retry": Deed(
        "Retry",
        "A new run starts in the place of this one. It has the results of the steps before the one"
        " that it begins with.",
        ("from_step", "reason"),
        _retry,
    ),
    "retry_compensation": Deed(
        "Retry compensation",
        "The compensations that have failed are tried again.",
        ("reason",),
        _retry_compensation,
    ),
    "skip": Deed(
        "Skip",
        "The unit is recorded as completed with this result, and nothing is executed.",
        ("unit", "result", "reason"),
        _skip,
    ),
    "pause": Deed(
        "Pause",
        "No further unit begins. What is being executed ends, and is recorded.",
        ("step", "reason"),
        _pause,
    ),
    "unpause": Deed(
        "Unpause",
        "What has become due begins, unless another pause holds it.",
        ("step", "reason"),
        _unpause,
    ),
    "cancel": Deed(
        "Cancel",
        "No further unit begins. What waits ends at once, with all child runs; a unit that is being"
        " executed ends, and its result is dropped.",
        ("compensate", "reason"),
        _cancel,
        is_dangerous=True,
    ),
}
"""By the names of the methods, in the order in which they are offered."""
