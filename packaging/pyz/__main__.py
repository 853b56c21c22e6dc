"""ddmq.pyz: one file that is `ddmq`, `ddmq-worker` and `ddmq-submit`.

It is the command by whose name it is called, by a link say, or the one that its first
word names: `ddmq.pyz worker ROOT QUEUE -- COMMAND`. Otherwise it is `ddmq`.
"""

import os
import sys


def main():
    """Run the command; return its exit status."""
    # The oldest Pythons that are about on clusters must still understand this file.
    if sys.version_info < (3, 9):  # noqa: UP036
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit("ddmq: this is Python " + found + ", but ddmq needs 3.9 or later")
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    if sys.argv[1:2] in (["worker"], ["submit"]):
        name = "ddmq-" + sys.argv.pop(1)
    return command(name)()


def command(name):
    """Return the function that is a command."""
    if name == "ddmq-worker":
        from ddmq.hpc.cli import main as worker

        return worker
    if name == "ddmq-submit":
        from ddmq.hpc.submit_cli import main as submit

        return submit
    from ddmq.cli import main as ddmq

    return ddmq


if __name__ == "__main__":
    sys.exit(main())
