"""A worker process of DBOS: `dbos_worker NAME`."""

from __future__ import annotations

import sys
import threading

from dbos import DBOS

from benchmarks.programs.dbos_app import configure, register_queue
from benchmarks.programs.wire import READY

configure(sys.argv[1])
DBOS.launch()
register_queue()
print(READY, flush=True)
threading.Event().wait()
