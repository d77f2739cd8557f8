"""The shop of `examples.fastapi_shop`, on the broker of a test."""

from examples.fastapi_shop.workflows import app, durable
from tests.apps import configure

__all__ = ["app", "durable"]

configure(app)
