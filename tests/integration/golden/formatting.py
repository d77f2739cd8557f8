"""Lays out a statement that psycopg was handed, so that a DBA can read it.

sqlglot parses the statement and writes it again; what it writes is what it was given, but for the
layout, the liberties that the package's docstring names, and casts, which are written `::`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlglot import exp, parse_one
from sqlglot.dialects.postgres import Postgres

WIDTH = 96

NAMED = re.compile(r"%\((\w+)\)s")

INDEX = re.compile(r"array_agg_\d+")
"""Parameters that SQLAlchemy makes of the index of an array, which has always one value."""

COLUMN_NAMES = ("COMMENT", "ROLLBACK")
"""Words that Postgres does not reserve, and sqlglot takes for the beginning of a statement."""


BINDS_CLOSER = (exp.Cast, exp.Column, exp.Literal, exp.Paren, exp.Placeholder, exp.Subquery)
"""What a `::` behind it is about as a whole."""


# No type for a type checker: sqlglot puts it there when the class is made.
_Generator: Any = Postgres.Generator


class Readable(Postgres):
    """The dialect of Postgres, laid out for statements of many CTEs."""

    class Tokenizer(Postgres.Tokenizer):
        KEYWORDS: ClassVar = {
            word: kind
            for word, kind in Postgres.Tokenizer.KEYWORDS.items()
            if word not in COLUMN_NAMES
        }

    class Generator(_Generator):
        def placeholder_sql(self, expression: exp.Placeholder) -> str:
            return f":{expression.name}"

        def cast_sql(self, expression: exp.Cast, safe_prefix: str | None = None) -> str:
            if not isinstance(expression.this, BINDS_CLOSER):
                return str(super().cast_sql(expression, safe_prefix))
            return f"{self.sql(expression, 'this')}::{self.sql(expression, 'to').lower()}"

        def anonymous_sql(self, expression: exp.Anonymous) -> str:
            if expression.name.lower() != "json_build_object":
                return str(super().anonymous_sql(expression))
            parts = [self.sql(one) for one in expression.expressions]
            pairs = [", ".join(pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
            return f"json_build_object({_on_lines(pairs)}\n)"

        def paren_sql(self, expression: exp.Paren) -> str:
            inner = self.sql(expression, "this")
            return f"({inner})" if _is_short(inner) else str(super().paren_sql(expression))

        def expressions(self, expression: Any = None, *args: Any, **kwargs: Any) -> str:
            written: str = super().expressions(expression, *args, **kwargs)
            if kwargs.get("key") == "using":
                return written.strip()
            if kwargs.get("key") == "locks":
                return written and f"\n{written.strip()}"
            if not kwargs.get("flat") or len(written) < WIDTH // 2:
                return written
            if isinstance(expression, exp.Update):
                return _on_lines([self.sql(one) for one in expression.expressions])
            if isinstance(expression, exp.Returning):
                return _filled([self.sql(one) for one in expression.expressions])
            return written

        def schema_columns_sql(self, expression: exp.Schema) -> str:
            return f"({_filled([self.sql(one) for one in expression.expressions])}\n)"


def _is_short(text: str) -> bool:
    return "\n" not in text and len(text) < WIDTH // 2


def _on_lines(parts: list[str]) -> str:
    return "\n" + textwrap.indent(",\n".join(parts), "  ")


def _filled(parts: list[str]) -> str:
    """Short parts share lines; a long one has its own."""
    lines = [""]
    for part in parts:
        if _is_short(part) and _is_short(lines[-1]) and lines[-1]:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return _on_lines([line for line in lines if line])


def formatted(text: str, parameters: Mapping[str, Any] | None = None) -> str:
    """The statement `text` for a reader."""
    values = {name: str(one) for name, one in (parameters or {}).items() if INDEX.fullmatch(name)}
    named = NAMED.sub(lambda found: values.get(found[1], f":{found[1]}"), text)
    tree = parse_one(named.replace("%%", "%"), read=Readable)
    for table in tree.find_all(exp.Table, exp.Column):
        table.set("db", None)
    for insert in tree.find_all(exp.Insert):
        if isinstance(insert.this, exp.Schema):
            _name_values(insert.expression, [column.name for column in insert.this.expressions])
    written = tree.sql(Readable, pretty=True, normalize_functions="lower", max_text_width=WIDTH)
    return "".join(f"{line.rstrip()}\n" for line in written.splitlines())


def _name_values(rows: Any, columns: list[str]) -> None:
    """Call each value that an INSERT selects by its column; SQLAlchemy numbers them."""
    if isinstance(rows, exp.Union):
        _name_values(rows.this, columns)
        _name_values(rows.expression, columns)
    elif isinstance(rows, exp.Select):
        values = [one.unalias() for one in rows.expressions]
        rows.set(
            "expressions",
            [
                value if value.alias_or_name == name else exp.alias_(value, name)
                for value, name in zip(values, columns, strict=True)
            ],
        )
