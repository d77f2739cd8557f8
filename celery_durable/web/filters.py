"""Which runs a list shows, as the address of the page says it: whoever has it sees the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from celery_durable.core.status import FINISHED, Status
from celery_durable.errors import ConfigurationError, nearest
from celery_durable.store.read.filters import RunFilter, checked_filter
from celery_durable.view.moments import moment

TEXTS = ("status", "workflow", "key", "error", "parent")

TIMES = ("since", "until", "ended_since", "standing_since")

TITLES: Mapping[str, str] = {
    "status": "Status",
    "workflow": "Workflow",
    "key": "Key",
    "error": "Error",
    "parent": "Child of run",
    "since": "Created since",
    "until": "Created before",
    "ended_since": "Ended since",
    "standing_since": "Nothing moves since",
    "compensation_failed": "Compensation failed",
    "tag": "Tag",
    "tags": "Tags",
}
"""What a page calls a filter, by its name in the address."""

FLAGS: Mapping[str, bool] = {"yes": True, "no": False}

PLACES = ("before", "seen")
"""What an address of a list says besides: where the page begins, and what is shown already."""

_ARGUMENT = re.compile(rf"\b({'|'.join(TITLES)})= ?")


def in_words(error: ConfigurationError) -> str:
    """What is wrong with a filter, in the words of the page: not `ended_since=`, `Ended since`."""
    return _ARGUMENT.sub(lambda found: f"{TITLES[found[1]]} ", str(error))


@dataclass(frozen=True, slots=True)
class Filters:
    """What the fields of the form say; `tags` are `name=value`. Nothing is checked yet.

    In an address `tag` is one tag as it is, with commas and outer spaces; `tags` is what is typed,
    several with commas between them. A key is as it is, too. `unknown` are names of no filter.
    """

    said: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    unknown: Sequence[str] = ()

    @classmethod
    def of(cls, query: QueryParams) -> Filters:
        """The filters of an address; fields that are left empty are left out."""
        names = (*TEXTS, *TIMES, "compensation_failed")
        said = {name: query[name].strip() for name in names if query.get(name, "").strip()}
        if "key" in said:
            said["key"] = query["key"]
        typed = (tag for text in query.getlist("tags") for tag in _typed(text))
        tags = dict.fromkeys([*query.getlist("tag"), *typed])
        unknown = sorted(query.keys() - {*TITLES, *PLACES})
        return cls(said, tuple(tag for tag in tags if tag), tuple(unknown))

    @property
    def typed_tags(self) -> str:
        """The tags that can be typed, with commas between them."""
        return ", ".join(tag for tag in self.tags if tag not in self.other_tags)

    @property
    def other_tags(self) -> Sequence[str]:
        """Tags that cannot be typed so: with a comma, or with outer spaces."""
        return [tag for tag in self.tags if [*_typed(tag)] != [tag]]

    def found(self, now: datetime) -> RunFilter:
        """The filter, checked. Raises `ConfigurationError`."""
        for name in self.unknown:  # without it all runs would be found
            raise ConfigurationError(f"There is no filter {name!r}.{nearest(name, TITLES)}")
        fields: dict[str, Any] = {name: self.said.get(name) for name in TEXTS}
        fields |= {name: self._time(name, now) for name in TIMES}
        if "ended_since" in self.said and fields["status"] not in list(FINISHED):
            ended = ", ".join(one.value for one in Status if one in FINISHED)
            raise ConfigurationError(
                f"{TITLES['ended_since']} goes with the status of runs that have ended: {ended}."
                " Choose one of them."
            )
        return checked_filter(
            **fields,
            tags=self._tags() or None,
            compensation_failed=self._flag("compensation_failed"),
        )

    def query(self, **others: object) -> str:
        """The filters as a query, with what else is to be in it."""
        pairs = [*self.said.items(), *(("tag", tag) for tag in self.tags)]
        pairs += [(name, str(value)) for name, value in others.items() if value is not None]
        return urlencode(pairs)

    def _tags(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for name, value in map(_pair, self.tags):
            if found.setdefault(name, value) != value:
                raise ConfigurationError(f"A run has one value of the tag {name!r}, not two.")
        return found

    def _time(self, name: str, now: datetime) -> datetime | None:
        if name not in self.said:
            return None
        try:
            return moment(self.said[name], now, UTC)
        except ValueError as error:
            raise ConfigurationError(f"{TITLES[name]}: {error}") from None

    def _flag(self, name: str) -> bool | None:
        said = self.said.get(name)
        if said is not None and said not in FLAGS:
            raise ConfigurationError(f"{TITLES[name]} is yes or no, not {said!r}.")
        return None if said is None else FLAGS[said]


def _typed(text: str) -> Iterator[str]:
    """The tags in what is typed."""
    for tag in filter(str.strip, text.split(",")):
        yield "=".join(part.strip() for part in tag.split("=", 1))


def _pair(tag: str) -> tuple[str, str]:
    name, is_there, value = tag.partition("=")
    if not is_there:
        raise ConfigurationError(f"A tag is written name=value, not {tag!r}.")
    return name, value


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
