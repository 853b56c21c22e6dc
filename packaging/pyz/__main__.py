"""ddmq.pyz: the commands `ddmq`, `ddmq-worker` and `ddmq-submit` in one file.

Its first argument may name the command: `ddmq.pyz worker ROOT QUEUE -- COMMAND`. So may the
name of the file itself, or of a link to it. Otherwise it is `ddmq`.
"""

import os
import sys


def main():
    """Run the command; return its exit status."""
    # Old Pythons, as clusters still have them, must be able to read this file.
    if sys.version_info < (3, 9):  # noqa: UP036
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit("ddmq: this is Python " + found + ", but ddmq needs 3.9 or later")
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    if sys.argv[1:2] in (["worker"], ["submit"]):
        name = "ddmq-" + sys.argv.pop(1)
    try:
        from ddmq.cli import run

        return run(name)
    except KeyboardInterrupt:  # while it imports, which is not worth a traceback
        return 130


if __name__ == "__main__":
    sys.exit(main())
