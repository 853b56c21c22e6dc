"""Make the pictures in docs/pictures/ from a run on a real Slurm.

    pip install pyte && python packaging/pictures/make.py

As root, as `tests/slurm` needs it, where there is no `/scratch` yet. 5,000 messages are done by 16 jobs on 4 nodes: one of a hundred takes
long, three kinds of failure come up, one node is lost, and another one is drained. The view is
taken from a terminal emulator, the report from headless Chromium.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP), str(TOP / "tests")]

from slurm.cluster import Cluster, install  # noqa: E402

from ddmq import Broker  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGES, JOBS, SLOTS = 5000, 16, 4
COLUMNS, ROWS = 100, 14
#: One message of a hundred takes long, and tells how far it is; some fail, each kind in its way.
COMMAND = """\
#!/bin/bash
n=$((10#${1//[!0-9]/}))
if ((n % 100 == 7)); then
    for part in 10 30 50 70 90; do echo $part% > "$DDMQ_PROGRESS"; sleep 5; done
fi
sleep 0.$((2 + n % 5))
((n % 61)) || { echo "$1: bad header" >&2; exit 2; }
((n % 97)) || { echo "write error: No space left on device" >&2; exit 1; }
[ "$SLURMD_NODENAME" != n3 ] || ((n % 29)) || kill -SEGV $$
exit 0
"""
#: Each node of this one machine gets a name of its own.
WORKER = """\
#!/bin/sh
exec unshare --uts sh -c 'hostname "$SLURMD_NODENAME"; exec {python} {place}/worker.py "$@"' sh "$@"
"""
COLOURS = {
    "default": "#d8dee9",
    "green": "#7fb77e",
    "cyan": "#6cb6c4",
    "white": "#aab2bf",
    "brown": "#d9a55b",
    "red": "#d9706f",
}
WIDE, HIGH = 8.4, 18


def main() -> None:
    """Run everything, and write the pictures."""
    import pyte

    install()
    place = Path("/scratch")  # as in the docs; there must be none yet
    place.mkdir()
    cluster = Cluster(place / "slurm")
    try:
        cluster.start()
        screens = run(cluster, place, pyte)
        pictures = TOP / "docs" / "pictures"
        pictures.mkdir(exist_ok=True)
        for name, screen in screens.items():
            (pictures / f"{name}.svg").write_text(screen)
        photograph(place / "report.html", pictures)
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)


def run(cluster: Cluster, place: Path, pyte: object) -> dict[str, str]:
    """Let the jobs work; return what was seen on terminals."""
    root = place / "mq"
    broker = Broker(root, create=True)
    broker.update_settings(message_timeout=20)
    broker.publish_many("jobs", [f"sample_{n:04}.fq.gz" for n in range(MESSAGES)])
    command = program(place / "process.sh", COMMAND)
    worker = program(
        place / "ddmq-worker", WORKER.format(python=sys.executable, place=place)
    )
    program(
        place / "worker.py",
        f"import sys; sys.path.insert(0, {str(TOP)!r})\n"
        "from ddmq.cli.worker import main; sys.exit(main())\n",
    )
    submit = [sys.executable, "-c", "from ddmq.cli.submit import main; main()"]
    submit += ["slurm", str(root), "jobs", "--worker", worker, "--workers", str(JOBS)]
    submit += ["-j", str(SLOTS), "--time", "10m", "--retries", "1", "--", command]
    environ = {**cluster.environ, "PYTHONPATH": str(TOP)}
    cluster.run(*submit, env=environ, cwd=str(place))
    view = [sys.executable, "-m", "ddmq", "view", "/scratch/mq", "jobs", "--watch"]
    screens = {}
    with Terminal(view, place, environ, pyte) as terminal:
        terminal.watch(35)
        cluster.kill_node("n4")
        broker.drain("jobs", host="n2")
        terminal.watch(20)
        screens["view"] = as_svg(terminal.screen)
        broker.wait("jobs", 1800)
    time.sleep(15)  # the workers say that they have ended
    line = [sys.executable, "-m", "ddmq", "report", "/scratch/mq", "jobs"]
    done = subprocess.run(
        [*line, "-o", str(place / "report.html")], cwd=place, env=environ, check=False
    )
    print(f"report: {done.returncode}")
    return screens


def program(path: Path, text: str) -> str:
    """Make a program; return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


class Terminal:
    """A program on a terminal, whose screen an emulator keeps."""

    def __init__(
        self, words: Sequence[str], place: Path, environ: dict[str, str], pyte: object
    ) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        environ = {**environ, "TERM": "xterm-256color"}
        self._process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, cwd=place, env=environ
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self.watch(5)  # it writes more, and would wait for ever if nobody read it
        self._process.wait()
        os.close(self._master)

    def watch(self, seconds: float) -> None:
        """Take what the program writes, for so long or until its end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                return
            try:
                self._stream.feed(os.read(self._master, 1 << 16))
            except OSError:  # it has ended
                return


def as_svg(screen: object) -> str:
    """Draw a screen, without the empty lines at its end."""
    rows = [screen.buffer[n] for n in range(ROWS)]
    texts = ["".join(row[n].data for n in range(COLUMNS)).rstrip() for row in rows]
    number = max((n for n, text in enumerate(texts, 1) if text), default=1)
    width, height = COLUMNS * WIDE + 24, number * HIGH + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">',
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#20242c"/>',
    ]
    for n, text in enumerate(texts[:number]):
        spans, column = "", 0
        while column < len(text):
            colour = rows[n][column].fg
            end = column
            while end < len(text) and rows[n][end].fg == colour:
                end += 1
            piece = html.escape(text[column:end]).replace(" ", "\u00a0")
            fill = COLOURS.get(colour, COLOURS["default"])
            length = (end - column) * WIDE
            spans += (
                f'<tspan x="{12 + column * WIDE:g}" fill="{fill}" '
                f'textLength="{length:g}">{piece}</tspan>'
            )
            column = end
        lines.append(f'<text y="{12 + n * HIGH + 13}">{spans}</text>')
    return "\n".join([*lines, "</svg>\n"])


def photograph(page: Path, pictures: Path) -> None:
    """Take pictures of the report, as it looks on a screen by day."""
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
    chromium += ["--disable-quic", "--no-first-run", "--hide-scrollbars"]
    chromium += ["--disable-background-networking", "--disable-component-update"]
    chromium += ["--disable-sync", f"--user-data-dir={page.parent}/chromium"]
    chromium += ["--virtual-time-budget=5000", "--window-size=1200,1500"]
    picture = pictures / "report.png"
    subprocess.run([*chromium, f"--screenshot={picture}", page.as_uri()], check=True)


if __name__ == "__main__":
    main()
