"""``python -I -S typed.py ADDRESS WORDS...``: ``celery WORDS...``, forked by the nursery there.

Costs a fiftieth of what a Celery costs that begins by itself. It has the folder, the environment
and the streams of this process, gets its signals, and dies with it; this one ends as it does.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


def main(address: str, words: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.connect(f"\0{address}")
        command = {"words": words, "env": dict(os.environ), "cwd": os.getcwd()}  # noqa: PTH109
        socket.send_fds(door, [json.dumps(command).encode()], [0, 1, 2])
        for number in FORWARDED:
            signal.signal(number, lambda received, _frame: door.send(bytes([received])))
        ended = door.recv(100)
    if not ended:
        return 1
    code = int(ended)
    return code if code >= 0 else 128 - code  # as a shell says it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
