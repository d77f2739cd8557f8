"""Rewrites the golden files: `python -m tests.integration.golden`.

Postgres is `DATABASE_URL`, else an embedded server.
"""

import os
from contextlib import ExitStack, closing

from tests import services
from tests.integration.driving import World
from tests.integration.golden import files
from tests.integration.golden.work import GOLDEN, text_of


def main() -> None:
    """Do the work of each statement, and write what is not as the file says."""
    with ExitStack() as stack:
        url = os.environ.get("DATABASE_URL")
        server = (
            services.PostgresServer(url)
            if url
            else stack.enter_context(services.embedded_postgres())
        )
        database = stack.enter_context(server.migrated("durable_test_golden"))
        for name, golden in GOLDEN.items():
            with closing(World(server.url(database))) as world:
                text = text_of(golden, world)
            if files.difference(name, text):
                files.write(name, text)
                print(f"rewrote {name}.sql")  # noqa: T201 - a program


if __name__ == "__main__":
    main()
