"""Where no terminal is. Real terminals: test_watch.py."""

from __future__ import annotations

import io

from unit.cli.test_panel import seen

from ddmq.cli.screen import Screen


def test_without_a_terminal_it_is_one_line_for_each_queue(clock):
    out = io.TextIOWrapper(io.BytesIO())
    Screen(out, clock, {}).show([seen(), seen(name="other")])
    lines = out.buffer.getvalue().decode().splitlines()
    assert [each.split()[2] for each in lines] == ["jobs:", "other:"]
    assert "\x1b" not in "".join(lines)
