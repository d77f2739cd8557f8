"""Alembic migrations of the durable tables."""
