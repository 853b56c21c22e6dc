"""What the placeholders in a command's arguments stand for."""

from __future__ import annotations

import pytest

from ddmq.hpc import placeholders


def test_what_is_put_in_is_not_looked_at_again():
    values = placeholders.values_of("{id} {}", "i1", 3)
    words = ["{}-{id}", "{slot}", "{slot0}"]
    assert placeholders.filled(words, values) == ["{id} {}-i1", "3", "2"]


def test_a_field_can_not_take_the_place_of_a_placeholder():
    values = placeholders.values_of({"id": "mine", "a b": 1}, "i1", 1)
    assert placeholders.filled(["{id}", "{a b}"], values) == ["i1", "{a b}"]


@pytest.mark.parametrize(
    ("text", "directory", "name", "stem"),
    [
        ("a", ".", "a", "a"),
        ("a/b.c", "a", "b.c", "b"),
        ("/x/.hidden", "/x", ".hidden", ".hidden"),
        ("a.b/c", "a.b", "c", "c"),
    ],
)
def test_paths_are_taken_apart(text, directory, name, stem):
    values = placeholders.values_of(text, "", 1)
    assert (values["//"], values["/"], values["/."]) == (directory, name, stem)


def test_names_of_variables_are_made_fit():
    assert placeholders.variable("in-put é") == "FIELD_IN_PUT__"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["p"], ["p", "a.x", "b.y"]),
        (["p", "{}"], ["p", "a.x", "b.y"]),
        (
            ["p", "-s{slot}", "-i={}", "-o", "{.}"],
            ["p", "-s2", "-i=a.x", "-i=b.y", "-o", "a", "b"],
        ),
        (["p", "{slot}"], ["p", "2"]),
        (["p", "{what}"], ["p", "{what}", "a.x", "b.y"]),
        (["p", "{f}"], ["p", "1", "{f}"]),
    ],
)
def test_several_messages_have_their_arguments_one_after_the_other(command, arguments):
    values = [
        placeholders.values_of("a.x", "1", 2),
        placeholders.values_of("b.y", "2", 2),
    ]
    if "{f}" in command:
        values[0]["f"] = "1"
    assert placeholders.filled_for_all(command, values) == arguments
