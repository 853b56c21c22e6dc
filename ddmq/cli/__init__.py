"""The commands `ddmq`, `ddmq-worker` and `ddmq-submit`.

Each of them starts here. A program imports only the modules that it needs.
"""


def run_ddmq() -> int:
    """Run `ddmq` with the words of this process; return the exit status."""
    return run("ddmq")


def run_worker() -> int:
    """Run `ddmq-worker`, likewise."""
    return run("ddmq-worker")


def run_submit() -> int:
    """Run `ddmq-submit`, likewise."""
    return run("ddmq-submit")


def run(program: str) -> int:
    """Run the program with this name, or `ddmq`; return the exit status."""
    import atexit
    import gc
    import sys

    # What is imported stays to the end. To look for garbage in it would take a tenth of the CPU time.
    gc.freeze()
    atexit.register(gc.freeze)
    if sys.argv[1:] in (["-v"], ["--version"]):
        from ddmq.cli.errors import guarded
        from ddmq.cli.version import show_version

        return guarded(program, show_version)
    if program == "ddmq-worker":
        from ddmq.cli.worker import main
    elif program == "ddmq-submit":
        from ddmq.cli.submit import main
    else:
        from ddmq.cli.main import main
    return main()
