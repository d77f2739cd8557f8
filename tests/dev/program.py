"""``python -m tests.dev.program JSON``: a supervisor of the commands that JSON names."""

import asyncio
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from celery_durable.dev.lines import Lines
from celery_durable.dev.process import Part
from celery_durable.dev.supervisor import Supervisor


def main(commands: dict[str, str]) -> None:
    parts = [
        Part(name, ["/bin/sh", "-c", command], os.environ, Path.cwd())
        for name, command in commands.items()
    ]
    asyncio.run(Supervisor(parts, Lines(Console(highlight=False)), {}).run())


main(json.loads(sys.argv[1]))
