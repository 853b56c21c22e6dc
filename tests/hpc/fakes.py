"""Fake schedulers: executables that are alone on the PATH, and note what they get."""

from __future__ import annotations

import shlex


class Fake:
    """A command of a scheduler that does nothing but note what it got."""

    def __init__(self, log):
        self.log = log
        self.stdin = log.with_suffix(".stdin")

    def __call__(self):
        """Return its arguments, and what is left of the chain; None before it was called."""
        return self.log.read_text().splitlines() if self.log.exists() else None

    def given(self):
        """Return what it read, the last time."""
        return self.stdin.read_bytes().decode()


def fake_commands(tmp_path, monkeypatch):
    """Return a function that makes a fake command, alone on the PATH, and says what it got."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.setenv("PATH", str(bin_))

    def make(name, says="12345", status=0):
        log = tmp_path / f"{name}.log"
        got = Fake(log)
        program = bin_ / name
        program.write_text(
            '#!/bin/sh\nprintf "%s\\n" "$@" "LEFT=$DDMQ_CHAIN_LEFT" >> '
            f"{shlex.quote(str(log))}\n"
            f"/bin/cat > {shlex.quote(str(got.stdin))}\necho {shlex.quote(says)} "
            f"{'' if status == 0 else '>&2'}\nexit {status}\n"
        )
        program.chmod(0o755)
        return got

    return make
