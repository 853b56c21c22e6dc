"""Runs commands of `ddmq` in this process, for tests."""

from __future__ import annotations

import io
import sys

from ddmq.cli import main as cli


class Shell:
    """Runs commands of `ddmq` in this process."""

    def __init__(self, capfd, monkeypatch):
        self._capfd = capfd
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments, stdin=b""):
        """Return exit status, standard output and standard error."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return (status, *self._capfd.readouterr())

    def ok(self, *arguments, **options):
        """Return standard output of a command that must succeed, without its last newline."""
        status, out, err = self(*arguments, **options)
        assert (status, err) == (0, "")
        return out.removesuffix("\n")

    def wrong(self, *arguments, **options):
        """Return the one line that a command says that is used wrongly, with status 2."""
        status, out, err = self(*arguments, **options)
        assert (status, out) == (2, "")
        assert err.startswith("ddmq")
        assert err.count("\n") == 1
        return err

    def error(self, *arguments, **options):
        """Return the one line that a command says that must fail with status 1."""
        status, out, err = self(*arguments, **options)
        assert (status, out) == (1, "")
        assert err.startswith("ddmq: ")
        assert err.count("\n") == 1
        return err
