"""Hypothesis never judges by the clock here: a busy machine is no failure."""

import pytest
from hypothesis import HealthCheck, settings

from celery_durable import Durable

settings.register_profile(
    "untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


@pytest.fixture
def durable() -> Durable:
    """One without an app. What a type checker would refuse in its use, a test takes as `Any`."""
    return Durable()
