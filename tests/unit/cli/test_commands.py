"""The list of commands."""

from __future__ import annotations

import pytest

from ddmq.cli import commands
from ddmq.errors import InvalidArgument


def test_every_command_of_every_module_is_listed_once():
    listed = {name: commands.find(name) for name in commands.MODULES}
    assert [command.name for command in listed.values()] == list(listed)
    for module in set(commands.MODULES.values()):
        made = getattr(commands, module).COMMANDS
        assert {c.name for c in made} == {
            name for name, its in commands.MODULES.items() if its == module
        }


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None])
def test_a_number_of_things_is_positive(value):
    assert commands.positive(3) == 3
    with pytest.raises(InvalidArgument, match="no positive number"):
        commands.positive(value)
