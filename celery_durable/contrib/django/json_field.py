"""`StoredJson`, a field over a column of the type `json`, as Django's own is over `jsonb`."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.db.models.fields.json import KeyTransform

from celery_durable.store import codec


class Key(KeyTransform):
    """What is under a key: `jsonb`, which can be compared."""

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Return the SQL of the value."""
        sql, parameters = super().as_postgresql(compiler, connection)
        return f"({sql})::jsonb", parameters


class StoredJson(models.JSONField):
    """JSON as it is stored. Its keys are looked up and ordered by as those of a `JSONField`."""

    def db_type(self, connection: Any) -> str:
        """Return the type of the column."""
        return "json"

    def get_transform(self, name: str) -> Any:
        """Return what `__name` stands for: a key, unless it is a transform that Django knows."""
        known = models.Field.get_transform(self, name)
        return known or (lambda *args, **options: Key(name, *args, **options))

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Select text, which no driver decodes."""
        return f"({sql})::text", params

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        """Return what the text says."""
        return None if value is None else json.loads(value)


class Payload(StoredJson):
    """JSON of an input or a result: values come back as they were, a datetime as a datetime."""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        """Return the value that was stored."""
        return None if value is None else codec.loads(value)
