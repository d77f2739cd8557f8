"""Which runs a list shows, as the address of the page says it: whoever has it sees the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from celery_durable.core.status import Status
from celery_durable.errors import ConfigurationError
from celery_durable.store.read.filters import RunFilter, checked_filter
from celery_durable.view.moments import moment

TEXTS = ("status", "workflow", "key", "error", "parent")

TIMES = ("since", "until", "ended_since", "standing_since")

FLAGS: Mapping[str, bool] = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Filters:
    """What the fields of the form say; `tags` are `name=value`. Nothing is checked yet."""

    said: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()

    @classmethod
    def of(cls, query: QueryParams) -> Filters:
        """The filters of an address; fields that are left empty are left out."""
        names = (*TEXTS, *TIMES, "compensation_failed")
        said = {name: query[name].strip() for name in names if query.get(name, "").strip()}
        tags = (text.strip() for said in query.getlist("tag") for text in said.split(","))
        return cls(said, tuple(tag for tag in tags if tag))

    def found(self, now: datetime) -> RunFilter:
        """The filter, checked. Raises `ConfigurationError`."""
        fields: dict[str, Any] = {name: self.said.get(name) for name in TEXTS}
        fields |= {name: self._time(name, now) for name in TIMES}
        return checked_filter(
            **fields,
            tags=dict(map(_pair, self.tags)) or None,
            compensation_failed=self._flag("compensation_failed"),
        )

    def query(self, **others: object) -> str:
        """The filters as a query, with what else is to be in it."""
        pairs = [*self.said.items(), *(("tag", tag) for tag in self.tags)]
        pairs += [(name, str(value)) for name, value in others.items() if value is not None]
        return urlencode(pairs)

    def _time(self, name: str, now: datetime) -> datetime | None:
        if name not in self.said:
            return None
        try:
            return moment(self.said[name], now, UTC)
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from None

    def _flag(self, name: str) -> bool | None:
        said = self.said.get(name)
        if said is not None and said not in FLAGS:
            raise ConfigurationError(f"{name} is yes or no, not {said!r}.")
        return None if said is None else FLAGS[said]


def _pair(tag: str) -> tuple[str, str]:
    name, is_there, value = tag.partition("=")
    if not is_there or not name.strip():
        raise ConfigurationError(f"A tag is written name=value, not {tag!r}.")
    return name.strip(), value.strip()


@dataclass(frozen=True, slots=True)
class Preset:
    """Filters that many people need."""

    title: str
    filters: Filters


def _presets() -> Iterator[Preset]:
    def preset(title: str, **said: Any) -> Preset:
        return Preset(title, Filters(said))

    yield preset("All")
    yield preset("Failed today", status=Status.FAILED.value, ended_since="24h")
    yield preset("Waiting for people", status=Status.SUSPENDED.value)
    yield preset("Stuck for an hour", status=Status.RUNNING.value, standing_since="1h")
    yield preset("Paused", status=Status.PAUSED.value)
    yield preset("Not undone", compensation_failed="yes")


PRESETS: Sequence[Preset] = tuple(_presets())
