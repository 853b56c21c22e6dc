"""Made-up names and contents in a queue, settings, requests and command lines.

`DDMQ_EXAMPLES=5000` tries that many others than those that are always tried.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protocol.scenes import HOUR, QUEUE, new_world, text
from protocol.test_neighbour import BUCKET, ID, SHELF, STAMP, TOKEN, told_by
from support import in_time

from ddmq import Broker
from ddmq.cli import commands
from ddmq.cli import main as cli
from ddmq.cli.spec import arguments_in, flags_in
from ddmq.clock import Clock
from ddmq.errors import InvalidSettings
from ddmq.settings import SETTINGS
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.settings_file import SettingsFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.deep


def examples(few: int) -> settings:
    """Return the same few examples each time, or as many others as somebody asks for."""
    more = os.environ.get("DDMQ_EXAMPLES")
    return settings(
        max_examples=int(more or few),
        derandomize=more is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# What lies in a queue

_counts = st.sampled_from(["0", "1", "5", "12", "1000", "9999", "999999999", "01", ""])
_stamps = st.sampled_from(
    [str(STAMP), str(STAMP + 2), "0" * 19, "9" * 19, f"{10**19 - 2}", "1", "9" * 20]
)
_ids = st.sampled_from(
    [ID, f"{ID}-0", f"{ID}-2", f"{ID}-{'9' * 30}", "drop-x", "-", "A"]
)
_times = st.sampled_from(["0" * 13, "1600000000000", "9" * 13, "x" * 13])
_tokens = st.sampled_from([TOKEN, "0" * 16, "f" * 15])
_priorities = st.sampled_from(["0", "7", "999", "9" * 18, "9" * 19, "007", "x"])


def joined(*parts: Any) -> Any:
    return st.tuples(*(st.just(p) if isinstance(p, str) else p for p in parts)).map(
        "".join
    )


_entries = joined(_stamps, ".", _ids, ".", _counts, "-", _counts)
_states = st.sampled_from(["o", "oo", "odxl", "x", "ddddd", "xo", "o" * 50, "o" * 51])
_span = joined(_counts, "-", _counts, "-", _counts)
_bundles = joined(
    *(_stamps, ".", _ids, ".", _counts), st.sampled_from(["", ".open", ".opened"])
)
_ranges = joined(
    *(_stamps, ".", _ids, ".", _span, ".", _tokens, ".", _states),
    st.sampled_from([".0-0", ".9-9", ".0-0.t1"]),
)
_ready = st.one_of(_entries, _bundles, _ranges)
_leases = joined(
    *(_times, ".", _priorities, ".", _ready, ".", _tokens),
    st.sampled_from(["", ".line", ".range", ".0123ab.range", ".rang"]),
)
_strange = st.text("abc.-0 \n\t'\"$\udcff\u00e4*\\", min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)
_names = st.one_of(
    *(
        _ready,
        _leases,
        _strange,
        _ids,
        joined(_span, ".", _tokens, ".", _states, ".done"),
        joined(_priorities, ".", _entries, ".", _tokens, ".0123ab.detached"),
        st.sampled_from(["lines", "0", "5", "drained"]),
        joined(_ids, ".note"),
    ),
    joined(_times, ".", _priorities, ".", _ready),
    joined(_priorities, ".", _entries, ".", st.sampled_from(["failed", "x", "7"])),
)
_directories = st.one_of(
    st.sampled_from(
        ["tmp", "work", "bundles", "delayed", "dead", "drop", "ready", "journal", "."]
    ),
    st.sampled_from(["ready/0", "ready/999", BUCKET, SHELF, "tmp/directory"]),
    st.sampled_from([f"bundles/{ID}", f"bundles/{ID}/lines", "bundles/x"]),
    joined("ready/", _priorities, "/", _stamps),
    joined("ready/", _priorities, "/", _stamps, ".shelf"),
    joined("ready/", _priorities, "/", _stamps, ".shelf/", _stamps),
)
_LINE = b'{"message":"another\'s","priority":7}\n'
_contents = st.one_of(
    st.sampled_from(
        [b"", _LINE, _LINE[:-5], b'{"priority":0}\n1\n"2"\n', b"[" * 99999]
    ),
    st.sampled_from(
        [b'{"priority":-1}\n1\n', b'{"durable":0,"priority":7}\n', b"null"]
    ),
    st.sampled_from([b'{"message":1,"timeout":1e400}', b'{"compacted":["../../x"]}']),
    st.binary(max_size=30),
)
_files = st.lists(st.tuples(_directories, _names, _contents), max_size=8)


def put(queue: str, directory: str, name: str, data: bytes) -> None:
    """Put a file somewhere, if that is possible; it is an hour old."""
    path = f"{queue}/{directory}/{name}"
    with suppress(OSError, ValueError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
        os.utime(path, (time.time() - HOUR, time.time() - HOUR))


@examples(100)
@given(files=_files, later=_files)
def test_whatever_lies_in_a_queue_each_message_comes_once(
    tmp_path: Path, files: Any, later: Any
) -> None:
    place = tempfile.mkdtemp(dir=tmp_path)
    world = new_world(tmp_path.__class__(place, "root"), bundle_size=11)
    (tmp_path / "x").write_text("the user's own")
    broker = world.broker()
    for file in files:
        put(world.path, *file)
    wanted = [text(str(n)) for n in range(16)]
    with in_time(20):
        broker.publish_many(QUEUE, wanted[:14])
        for message in wanted[14:]:
            broker.publish(QUEUE, message, priority=0)
        for file in later:
            put(world.path, *file)
        got = []
        for _ in range(4):
            world.clock.advance(HOUR)
            taken = world.broker().consume(QUEUE, 12)
            got += [m.message for m in taken]
            broker.ack(taken)
            broker.clean(QUEUE)
        while taken := broker.consume(QUEUE, 1000):
            got += [m.message for m in taken]
            broker.ack(taken)
        told_by(world.broker())
        told_by(broker)
    assert sorted(m for m in got if m in wanted) == sorted(wanted)
    assert os.listdir(place) == ["root"]
    assert (tmp_path / "x").read_text() == "the user's own"
    shutil.rmtree(place)


# What stands in `ddmq.yaml`

_scalars = st.one_of(
    st.sampled_from(
        ["1", "-1", "1e999", "9" * 400, "true", "null", "~", "''", ".nan", ".inf"]
    ),
    st.sampled_from(
        ["!!python/object:os.system 1", "!!python/name:os.system", "&a [*a]"]
    ),
    st.sampled_from(
        ["*a", "&a {}", "0x" + "f" * 99, "1:59:59", "[" * 500, "{a: " * 99]
    ),
    st.text(max_size=8),
)
_keys = st.one_of(
    st.sampled_from([*SETTINGS, "<<", "? x", "\t", "- ", "%YAML 9.9", "---", "..."]),
    st.text(max_size=5),
)
_lines = joined(
    st.sampled_from(["", "  ", "\t", "#"]),
    _keys,
    st.sampled_from([": ", ":", " "]),
    _scalars,
)
_yamls = st.one_of(
    st.lists(_lines, max_size=6).map(
        lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=60),
)
_heads = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b"#" * (1 << 16)])


@examples(600)
@given(head=_heads, data=_yamls)
def test_a_settings_file_is_settings_or_refused_in_one_line(
    tmp_path: Path, head: bytes, data: bytes
) -> None:
    (tmp_path / "ddmq.yaml").write_bytes(head + data)
    file = SettingsFile(str(tmp_path), FileSystem())
    with in_time(20):
        values = read_or_refused(file)
    assert all(SETTINGS[key].accepts(value) for key, value in values.items())


def read_or_refused(file: SettingsFile) -> Mapping[str, Any]:
    try:
        return file.read()
    except InvalidSettings as error:
        said = str(error)
    assert said.startswith(f"{file.path}: ")
    assert "\n" not in said
    return {}


# Requests and command lines

_WORDS = [
    "a",
    "",
    "-",
    "--",
    "0",
    "1",
    "-1",
    "1e999",
    "null",
    "9" * 5000,
    "\udcff",
    "a\0b",
]
_WORDS += ["a,b", "q", "q,q", "../q", "priority=1", "queue=1", "self=1", "=", "x" * 300]
_WORDS += ["[1]", '{"a": 1}', "2770", "777", "*", "$(x)", "a\nb", "\x1b[2J", "%s", "{}"]
_COMMANDS = [commands.find(name) for name in commands.MODULES]
_FLAGS = sorted({flag for c in _COMMANDS for flag in flags_in(c.arguments)})
_FLAGS += [
    "--format",
    "json",
    "yaml",
    "-s",
    "-v",
    "-d",
    "-h",
    "--no-such",
    "--format=json",
]
_ROOTS = ["root", "root", "root", "root", "none", "file", "", "no/where", "root/q"]
_words = st.one_of(
    *(st.sampled_from(_WORDS), st.sampled_from(_FLAGS), st.text(max_size=6)),
    joined(st.sampled_from(_FLAGS), "=", st.sampled_from(_WORDS)),
)
_commands = list(commands.MODULES)
_argv = st.tuples(
    st.sampled_from([*_commands, "json", "no-such", "-h", "-v"]),
    st.sampled_from(_ROOTS),
    st.sampled_from(["q", "q", "q", "other", "a/b", ".", "tmp"]),
    st.lists(_words, max_size=5),
).map(lambda parts: [*parts[:3], *parts[3]])

_json = st.recursive(
    st.one_of(
        *(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.sampled_from(_WORDS),
        ),
        st.sampled_from(["root", "q", "work", 10**400, [["q"]], {"priority": 3}]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=4,
)
_arguments = sorted({name for c in _COMMANDS for name, _ in arguments_in(c.arguments)})
_requests = st.one_of(
    _json,
    st.builds(
        lambda cmd, root, more: {"cmd": cmd, "root": root, "queue": "q", **more},
        st.sampled_from(_commands),
        st.sampled_from(_ROOTS),
        st.dictionaries(st.sampled_from(_arguments), _json, max_size=4),
    ),
)


def no_wait(*_: Any) -> None:
    """Let Ctrl-C come when somebody would wait."""
    raise KeyboardInterrupt


def ran(argv: list[str], given: bytes = b"") -> tuple[int, str, str]:
    """Run a command in this process; return its status, output and complaints."""
    streams = [
        io.TextIOWrapper(io.BytesIO(data), "utf-8", "backslashreplace")  # as stderr is
        for data in (given, b"", b"")
    ]
    names = ("stdin", "stdout", "stderr")
    patches = [mock.patch.object(sys, *pair) for pair in zip(names, streams)]
    patches.append(mock.patch.object(Clock, "sleep", no_wait))
    with patches[0], patches[1], patches[2], patches[3]:
        try:
            status = cli.main(argv)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        for stream in streams[1:]:
            stream.flush()
    out, err = (s.buffer.getvalue().decode() for s in streams[1:])  # type: ignore[attr-defined]
    return status, out, err


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run in a directory with a root and a file, and nothing else."""
    path = tmp_path_factory.mktemp("sandbox") / "in"
    path.mkdir()
    (path / "file").write_text("one\ntwo\n")
    Broker(path / "root", create=True).create_queue("q")
    before = os.getcwd()
    os.chdir(path)
    yield path
    os.chdir(before)


def check(sandbox: Path) -> None:
    """Nothing was made beside the root, but roots that were asked for."""
    assert os.listdir(sandbox.parent) == ["in"]
    assert (sandbox / "file").read_text() == "one\ntwo\n"
    if not (sandbox / "root" / "q" / "ddmq.yaml").exists():  # deleted, by command
        Broker(sandbox / "root", create=True).create_queue("q")


@examples(600)
@given(argv=_argv, data=st.binary(max_size=9))
def test_every_command_line_ends_with_a_status(
    sandbox: Path, argv: list[str], data: bytes
) -> None:
    with in_time(20):
        status, _, err = ran([word for word in argv if word != "-d"], data)
    assert status in (0, 1, 2, 3, 130)
    assert "Traceback" not in err
    check(sandbox)


@examples(300)
@given(request=_requests, cut=st.sampled_from([None, None, None, 5]))
def test_every_request_is_answered_with_an_object(
    sandbox: Path, request: Any, cut: int | None
) -> None:
    with in_time(20):
        status, out, _ = ran(["json"], json.dumps(request)[:cut].encode())
    assert status in (0, 1, 2, 3, 130)
    if status != 130:
        assert isinstance(json.loads(out), dict)
        assert ("error" in json.loads(out)) == (status in (1, 2))
    check(sandbox)
