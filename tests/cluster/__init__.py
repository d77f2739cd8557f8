"""Real Celery processes under test, driven through pytest-celery's cluster API, without Docker.

process   one local process that answers like a Docker container
launch    the few lines that run before it, so that it dies with the tests
nodes     pytest-celery's containers and nodes on top of such processes
factory   `Cluster`: starts nodes for one test and ends them all
"""

from tests.cluster.factory import Cluster
from tests.cluster.nodes import BeatNode, LocalNode, RedisNode, WorkerNode
from tests.cluster.process import LocalProcess

__all__ = ["BeatNode", "Cluster", "LocalNode", "LocalProcess", "RedisNode", "WorkerNode"]
