"""A RabbitMQ server of a test's own: it may be killed, emptied and started again."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.cluster.process import LocalProcess, is_listening
from tests.waiting import wait_until

# Debian's /usr/sbin/rabbitmq-server becomes another user; this is what it then runs.
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/homebrew/sbin")

READY_SECONDS = 90.0

ONE_SCHEDULER = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
"""It shares the machine with what is tested."""

NO_CORE_FILES = "-mnesia core_dir false"
"""A node that is killed often writes no MnesiaCore file into the directory it runs in."""


def rabbitmq_server() -> str | None:
    """The command that starts a server, if there is one."""
    return shutil.which("rabbitmq-server", path=os.pathsep.join(PLACES))


class RabbitMQServer:
    """A node of its own, whose queues and messages last in `directory` until it is emptied."""

    def __init__(self, command: str, directory: Path, port: int, dist_port: int) -> None:
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"
        self._port = port
        self._data = directory / "rabbitmq"
        plugins = directory / "enabled_plugins"
        plugins.write_text("[].\n")
        env = {
            "HOME": str(directory),
            "RABBITMQ_NODENAME": f"durable{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(directory / "rabbitmq_log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(directory / "no_such_file"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{ONE_SCHEDULER} {NO_CORE_FILES}",
        }
        self._process = LocalProcess([command], name="rabbitmq", directory=directory, env=env)

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        self._process.start_listening(self._port, READY_SECONDS)

    def kill(self) -> None:
        """SIGKILL; what was durable comes back with `start`."""
        # Its script has children, and the node is one of them.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.end()
        wait_until(lambda: not is_listening(self._port), message="RabbitMQ to be gone")

    def empty(self) -> None:
        """Forget every queue and message. Only while it is not running."""
        shutil.rmtree(self._data, ignore_errors=True)

    def pause(self) -> None:
        """SIGSTOP: it accepts connections and does not answer."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def run_short_of_memory(self) -> None:
        """It reads nothing more from connections that publish."""
        self._evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")

    def has_memory_again(self) -> None:
        """The end of that."""
        self._evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")

    def hold_up_queue(self, queue: str) -> None:
        """It takes nothing and refuses nothing, like a quorum queue without its majority."""
        name = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
        self._evaluate(
            f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), sys:suspend(amqqueue:get_pid(Q))."
        )

    def _evaluate(self, expression: str) -> None:
        command = shutil.which("rabbitmqctl", path=os.pathsep.join(PLACES))
        assert command is not None
        subprocess.run(
            [command, "eval", expression], env=self._process.env, check=True, capture_output=True
        )


@contextmanager
def running_rabbitmq(
    command: str, directory: Path, port: int, dist_port: int
) -> Iterator[RabbitMQServer]:
    """A running server, which is gone afterwards."""
    server = RabbitMQServer(command, directory, port, dist_port)
    try:
        server.start()
        yield server
    finally:
        server.kill()
