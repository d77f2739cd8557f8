"""What a handler is given."""

import logging
from collections.abc import Iterator
from typing import assert_type
from uuid import UUID

from sqlalchemy.orm import Session

from celery_durable import Context


def handler(ctx: Context) -> None:
    assert_type(ctx.run_id, UUID)
    assert_type(ctx.workflow, str)
    assert_type(ctx.step, str)
    assert_type(ctx.unit, str)
    assert_type(ctx.attempt, int)
    assert_type(ctx.idempotency_key, str)
    assert_type(ctx.session, Session)
    assert_type(ctx.logger, logging.LoggerAdapter[logging.Logger])
    assert_type(iter(ctx.results), Iterator[str])
    assert_type(ctx.send_task(object()), str)
    if ctx.error is not None:
        assert_type(ctx.error.type, str)
        assert_type(ctx.error.message, str)
    ctx.run_id = UUID(int=0)  # type: ignore[misc]
    ctx.results["reserve"] = 1  # type: ignore[index]
    ctx.nonsense  # type: ignore[attr-defined]  # noqa: B018
