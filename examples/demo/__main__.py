"""`python -m examples.demo [--runs N]`."""

import sys

# The demo writes into a folder of its own and nowhere else: no __pycache__ beside the sources.
sys.dont_write_bytecode = True

from examples.demo import signals  # noqa: E402 - after the line above

# Before the imports that take their time: Ctrl-C is no error.
signals.listen()

from examples.demo.story import main  # noqa: E402 - after the line above

if __name__ == "__main__":
    sys.exit(main())
