"""``python launch.py PARENT COMMAND...``: become COMMAND, and die when PARENT dies.

Runs as a script of its own instead of as `preexec_fn`, which is unsafe in a process with threads.
The parent-death signal is Linux only (prctl(2)); it survives `execve`. Elsewhere the tests rely on
their own clean-up.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was armed
        sys.exit("the test run has ended")
    os.execvp(command[0], command)


main(int(sys.argv[1]), sys.argv[2:])
