"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddmq import cli

README = Path(__file__).parents[2] / "README.md"


def blocks(title):
    """Return the code blocks of one section of the README."""
    section = README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)


def test_the_ten_lines_of_python_print_what_the_readme_says(tmp_path, capsys):
    code, printed = blocks("Ten lines of Python")
    exec(code.replace("/tmp/mq", str(tmp_path)), {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", ["Commands", "Settings"])
def test_every_command_and_setting_is_in_its_table(name):
    from ddmq.commands import COMMANDS
    from ddmq.settings import SETTINGS

    known = {"Commands": [c.name for c in COMMANDS], "Settings": list(SETTINGS)}[name]
    text = README.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    rows = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert [word for word in known if f"`{word}" not in rows] == []


def test_the_lines_of_shell_work_one_after_the_other(tmp_path, capfd):
    shown = ""
    (tmp_path / "files.txt").write_text("a\nb\n")
    for line in blocks("Ten lines of shell")[0].splitlines():
        words = line.split("#")[0].replace('"sample 17"', "sample-17").split()
        words = [w.replace("/scratch", str(tmp_path)) for w in words[1:]]
        words = [w.replace("files.txt", f"{tmp_path}/files.txt") for w in words]
        if not line.startswith("ddmq ") or words[0] == "wait":
            continue
        if words[0] == "ack":
            words[-1] = re.search(r'"id": "(\w+)"', shown)[1]
        assert cli.main(words) == 0
        shown = capfd.readouterr().out
