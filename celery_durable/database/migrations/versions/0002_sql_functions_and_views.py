"""Functions and views for users' own SQL.

The files in `0002` are executed in the order of their names.
"""

from pathlib import Path

from celery_durable.database.migrations.statements import execute

revision = "0002"
down_revision = "0001"

FILES = sorted(Path(__file__).with_name("0002").glob("*.sql"))


def upgrade() -> None:
    for file in FILES:
        execute(file.read_text(encoding="utf-8"))


def downgrade() -> None:
    execute(
        """
        DROP VIEW {schema}.durable_workflow_run, {schema}.durable_workflow_unit;
        DROP FUNCTION {schema}.durable_read_only, {schema}.durable_result,
            {schema}.durable_unit_result, {schema}.durable_cancel, {schema}.durable_resume,
            {schema}.durable_start, {schema}.durable_hint, {schema}.durable_check_found,
            {schema}.durable_check_payload, {schema}.durable_check_text,
            {schema}.durable_check_given, {schema}.durable_uuid7;
        ALTER TABLE {schema}.durable_definition DROP COLUMN queue, DROP COLUMN max_payload_bytes
        """
    )
