"""`ddmq.yaml`: what it may hold, what is refused, and how it is edited."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq import __version__
from ddmq.errors import InvalidArgument, InvalidSettings, UnknownLayout
from ddmq.settings import (
    LAYOUT,
    LAYOUT_LINE,
    LAYOUT_SINCE,
    MAX_FILE,
    OVERRIDES,
    SETTINGS,
    Layer,
    Settings,
    check,
    checked,
    dump,
    edited,
    is_number,
    layered,
    parse,
    parse_value,
    show,
    template,
)

FILE = "/mq/ddmq.yaml"
_SECONDS = [
    "0",
    "-1",
    "1.0e+10",
    "true",
    "ten",
    "null",
    ".nan",
    ".inf",
    "[1]",
    "2020-01-01",
]
_PRIORITIES = ["-1", "1.5", "high", "true", "null", str(10**18), "[]", "{}"]
BAD = {
    "message_timeout": ["0", "-0.5", *_SECONDS],
    "lock_timeout": _SECONDS,
    "priority": _PRIORITIES,
    "requeue_prio": _PRIORITIES,
    "requeue": ["1", "0", "null", "'true'", "maybe"],
    "durable": ["1", "0", "null", "'no'", "[]"],
    "requeue_limit": ["-1", "1.5", "none", "true", str(10**9)],
}
GOOD: dict[str, dict[str, object]] = {
    "message_timeout": {"1": 1, "1.5": 1.5, "1000000000": 10**9},
    "lock_timeout": {"1": 1},
    "priority": {"0": 0, str(10**18 - 1): 10**18 - 1},
    "requeue_prio": {"0": 0},
    "requeue": {"true": True, "no": False},
    "durable": {"false": False},
    "requeue_limit": {"0": 0, "null": None, "~": None, "100000000": 10**8},
}


def read(text):
    return parse(text.encode(), FILE)


def read_or_refused(data, **options):
    """Return what a file sets; nothing when it is refused, by its name."""
    try:
        return parse(data, FILE, **options)
    except (InvalidSettings, UnknownLayout) as error:
        if not str(error).startswith(FILE):
            raise
        return {}


def test_a_new_file_sets_nothing_and_explains_everything():
    assert read(template()) == {}
    for key, setting in SETTINGS.items():
        assert f"#{key}: " in template()
        assert setting.meaning in template()


def test_every_default_can_be_uncommented():
    text = template().replace("\n#", "\n").replace("\n ", "\n# ")
    assert Settings(**read(text)) == Settings()
    assert set(read(text)) == set(SETTINGS) == set(Settings._fields)


def test_a_file_may_set_each_of_the_settings():
    assert tuple(Layer.__annotations__) == Settings._fields


@pytest.mark.parametrize("value", [0, -1, 1.5, 10**30])
def test_a_number_is_one(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, False, None, "1", b"1", [], {}, 1j])
def test_what_is_no_number_is_none(value):
    assert not is_number(value)


@pytest.mark.parametrize(("key", "text"), [(k, t) for k in BAD for t in BAD[k]])
def test_a_bad_value_is_answered_with_file_key_and_remedy(key, text):
    with pytest.raises(InvalidSettings) as caught:
        read(f"{key}: {text}\n")
    assert str(caught.value).startswith(f"{FILE}: {key} is ")
    assert f"; it must be {SETTINGS[key].must}" in str(caught.value)


@pytest.mark.parametrize(("key", "text"), [(k, t) for k in GOOD for t in GOOD[k]])
def test_a_good_value_is_read(key, text):
    values = read(f"{key}: {text}\n")
    assert values == {key: GOOD[key][text]}
    assert type(values[key]) is type(GOOD[key][text])


@pytest.mark.parametrize("key", ["colour", "Priority", "1", "null", "true", "1.5"])
def test_an_unknown_key_is_answered_with_those_that_are_known(key):
    with pytest.raises(InvalidSettings) as caught:
        read(f"{key}: 1\n")
    assert str(caught.value).startswith(f"{FILE}: unknown key ")
    assert all(known in str(caught.value) for known in SETTINGS)


def test_a_known_key_does_not_excuse_an_unknown_one():
    with pytest.raises(InvalidSettings, match="colour"):
        read("priority: 1\ncolour: red\n")


@pytest.mark.parametrize("text", ["", "\n", "# priority: 1\n", "  # a\n\n#b", "---\n"])
def test_a_file_without_keys_sets_nothing(text):
    assert read(text) == {}


def test_comments_alone_do_not_import_yaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read(template() + "  # indented\n") == {}
    with pytest.raises(ImportError):
        read("priority: 1\n")


def test_any_later_line_counts_however_many_comments_stand_before():
    assert read(template() + "priority: 7\n") == {"priority": 7}


HOSTILE = {
    "a list": "- 1\n- 2\n",
    "text": "hello\n",
    "a number": "5\n",
    "deep nesting": "[" * 20_000,
    "deep mappings": "priority: " + "{a: " * 10_000,
    "no end": "priority: [1, 2",
    "a tab": "priority:\t\t- 1\n\t- 2",
    "two documents": "priority: 1\n---\npriority: 2\n",
    "an object": "priority: !!python/object/apply:os.system ['true']\n",
    "an unknown tag": "priority: !mine 1\n",
    "an unknown alias": "priority: *a\n",
    "a recursive alias": "priority: &a [*a]\n",
    "a recursive mapping": "&a {*a : 1}\n",
    "a list as a key": "[1, 2]: 3\n",
    "a mapping as a key": "{a: b}: 3\n",
    "a huge number": "priority: " + "9" * 50_000,
    "a long number": "priority: " + "9" * 4000,
    "a sexagesimal number": "priority: 1" + ":59" * 5000,
    "a sexagesimal float": "message_timeout: 1" + ":59" * 5000 + ".5",
    "a date that is none": "priority: 2020-99-99\n",
    "no integer": "priority: !!int ''\n",
    "text as an integer": "priority: !!int x\n",
    "no float": "message_timeout: !!float ''\n",
    "no boolean": "requeue: !!bool x\n",
    "no timestamp": "priority: !!timestamp x\n",
    "no base64": "priority: !!binary x\n",
    "a mapping as a sequence": "priority: !!omap x\n",
    "a sequence as a mapping": "priority: !!map x\n",
    "a NUL": "priority: 1\0\n",
    "a control character": "priority: \x01\n",
    "an escape": "priority: \x1b[2J\n",
}


@contextmanager
def within(seconds):
    """Fail what takes more of the processor's time."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    late = False
    try:
        yield
    except KeyboardInterrupt:
        late = True
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert not late, "a small file keeps its reader busy"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_refused_in_one_line(text):
    with within(20), pytest.raises(InvalidSettings) as caught:
        read(text)
    assert str(caught.value).startswith(FILE)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_aliases_of_aliases_do_not_multiply():
    text = "a: &x0 [1, 1]\n"
    for n in range(1, 100):
        text += f"a{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n"
    with within(2), pytest.raises(InvalidSettings):
        read(text)


def test_merge_keys_do_not_multiply():
    text = "a0: &x0 {x: 1}\n"
    for n in range(1, 30):
        text += f"a{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n"
    with within(2), pytest.raises(InvalidSettings):
        read(text)


@given(st.text())
def test_any_text_is_settings_or_a_reason(text):
    assert set(read_or_refused(text.encode("utf-8", "surrogatepass"))) <= set(SETTINGS)


_tags = st.sampled_from(
    ["", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!set", "!!str"]
)
_scalars = st.text("0123456789:.-+_eExXoObBnNulTZ~<=*&!'\"[]{},# ", max_size=12)


@given(st.sampled_from(sorted(SETTINGS)), _tags, _scalars)
def test_any_value_of_a_key_is_a_setting_or_a_reason(key, tag, scalar):
    values = read_or_refused(f"{key}: {tag} {scalar}\n".encode())
    assert all(name == key and SETTINGS[key].accepts(values[key]) for name in values)


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(InvalidSettings, match="not UTF-8"):
        parse(b"priority: \xff\n", FILE)


def test_a_file_that_is_too_long_is_refused():
    with pytest.raises(InvalidSettings, match=f"over {MAX_FILE} bytes"):
        parse(b"#" * MAX_FILE, FILE)
    assert parse(b"#" * (MAX_FILE - 1), FILE) == {}


def test_the_line_of_a_mistake_is_named():
    with pytest.raises(InvalidSettings, match="at line 3"):
        read("# one\npriority: 1\n\tdurable: true\n")


def test_the_last_layer_wins_key_by_key():
    root, queue = {"priority": 5, "requeue_prio": 6}, {"priority": 0}
    assert layered() == Settings()
    assert layered(root, queue) == Settings(priority=0, requeue_prio=6)


def test_null_in_a_later_layer_lifts_a_limit():
    assert layered({"requeue_limit": 3}, {"requeue_limit": None}).requeue_limit is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        pytest.param(10**5000, "a number with many digits", id="10**5000"),
        ([1], "of type list"),
        ({}, "of type dict"),
        ("a\nb", r"'a\nb'"),
    ],
)
def test_a_value_is_shown_in_few_printable_words(value, shown):
    assert show(value) == shown


def test_long_text_is_shown_cut_short():
    assert len(show("x" * 1000)) <= 60


@pytest.mark.parametrize("key", OVERRIDES)
def test_an_argument_is_checked_like_a_setting(key):
    with pytest.raises(InvalidArgument, match=f"^{key} is 'x'; it must be "):
        check(key, OVERRIDES[key], "x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("null", None), ("", None), (" ", None), ("yes", True), ("a b", "a b")],
)
def test_one_value_is_read_as_in_a_file(text, value):
    assert parse_value(text) == value


def test_one_value_that_is_no_yaml_is_refused():
    with pytest.raises(InvalidSettings, match="YAML"):
        parse_value("[1")


def test_what_is_dumped_can_be_loaded():
    values = {"q": {"waiting": 1, "names": ["Größe", None, True, 1.5]}}
    assert parse_value(dump(values)) == values


COMMENTED = "# ours\npriority: 5 # high\n\n# do not touch\nrequeue: false\n"


def test_an_edit_replaces_one_line_and_keeps_the_others():
    assert edited(COMMENTED, {"priority": 7}, []) == COMMENTED.replace("5 # high", "7")


def test_an_edit_adds_what_was_not_set():
    assert edited(COMMENTED, {"durable": False}, []) == COMMENTED + "durable: false\n"
    assert edited("# a", {"durable": False}, []) == "# a\ndurable: false\n"
    assert edited("", {"durable": False}, []) == "durable: false\n"


def test_an_edit_removes_what_is_unset():
    assert edited(COMMENTED, {}, ["requeue"]) == COMMENTED.replace(
        "requeue: false\n", ""
    )
    assert edited(COMMENTED, {}, ["durable"]).rstrip() == COMMENTED.rstrip()


def test_unsetting_has_the_last_word():
    assert read(edited("priority: 1\n", {"priority": 2}, ["priority"])) == {}


def test_commented_defaults_stay_comments():
    text = edited(template(), {"priority": 1}, [])
    assert text == template() + "priority: 1\n" or text.startswith(template().rstrip())
    assert read(text) == {"priority": 1}


@pytest.mark.parametrize(
    "text",
    [
        "{priority: 5, requeue: false}\n",
        "'priority': 5\nrequeue: false\n",
        "priority:\n  5\nrequeue: false\n",
        "priority: 4\npriority: 5\nrequeue: false\n",
        "? priority\n: 5\n? requeue\n: false\n",
        "--- {priority: 5, requeue: false}\n...\n",
    ],
)
def test_a_file_in_another_style_is_edited_all_the_same(text):
    assert read(edited(text, {"priority": 7}, [])) == {"priority": 7, "requeue": False}
    assert read(edited(text, {}, ["priority"])) == {"requeue": False}


@pytest.mark.parametrize("short", ["0.999", "1.0e-10", ".5"])
def test_a_timeout_that_is_too_short_is_raised_where_somebody_wrote_it_by_hand(short):
    text = f"message_timeout: {short}\nlock_timeout: 0.25\n"
    assert read(text) == {"message_timeout": 1, "lock_timeout": 0.25}
    assert read(edited(text, {"priority": 7}, []))["message_timeout"] == 1
    with pytest.raises(InvalidSettings, match="must be a number of seconds from 1 to"):
        checked({"message_timeout": float(short)}, FILE)


def test_an_invalid_file_is_not_edited():
    with pytest.raises(InvalidSettings, match="colour"):
        edited("colour: red\n", {"priority": 1}, [])


_changes = st.fixed_dictionaries(
    {},
    optional={
        "message_timeout": st.floats(1, 10**9) | st.integers(1, 10**9),
        "priority": st.integers(0, 10**18 - 1),
        "requeue": st.booleans(),
        "requeue_limit": st.none() | st.integers(0, 10**8),
    },
)


@given(_changes, _changes, st.sets(st.sampled_from(sorted(SETTINGS))))
def test_after_an_edit_the_file_says_what_was_asked(before, changes, unset):
    text = edited(edited(template(), before, []), changes, sorted(unset))
    wanted = {**before, **changes}
    assert read(text) == {key: wanted[key] for key in wanted if key not in unset}


# The layout of a queue


def read_of_queue(text):
    return parse(text.encode(), FILE, of_queue=True)


def test_a_new_file_of_a_queue_says_its_layout_and_sets_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)  # nor is yaml imported for it
    assert template(of_queue=True).endswith(f"{LAYOUT_LINE}\n\n{template()}")
    assert read_of_queue(template(of_queue=True)) == {}


def test_the_layout_is_known_since_a_ddmq_that_is_no_later_than_this_one():
    assert f"layout: {LAYOUT} (ddmq {LAYOUT_SINCE})" == LAYOUT_LINE
    assert numbers(LAYOUT_SINCE) <= numbers(__version__)


def numbers(version):
    return [int(number) for number in version.split(".")[:3]]


KNOWN = [
    "{line}",
    "# ours\n{line}  # theirs\npriority: 7",
    "priority: 7\n{line} \t",
    "priority: 7\r\n{line}\r\n",
    "# {line}\n{line}\n  # layout: 3\npriority: 7\n",
    "---\n{line}\n'priority': 7\n",
    "layout:\t2\npriority: 7\n",
    "layout: 2 (ddmq 1.0.0rc1)\npriority: 7\n",
]


@pytest.mark.parametrize("text", KNOWN)
def test_our_layout_is_found_on_any_line(text):
    text = text.format(line=LAYOUT_LINE)
    assert read_of_queue(text) == ({"priority": 7} if "prio" in text else {})


@pytest.mark.parametrize(
    ("line", "who"),
    [
        ("layout: 3 (ddmq 1.4.0)", "ddmq 1.4.0 or newer"),
        ("layout: 12 (ddmq 3.0.0rc1)  # see there\r", "ddmq 3.0.0rc1 or newer"),
        ("layout: 999999999", "a later ddmq"),
    ],
)
def test_a_later_layout_is_told_before_anything_else_that_may_be_wrong(line, who):
    for text in (line, f"{line}\ncolour: red\n", f"[[\n{line}\n\t%", f"\n\n{line}\n"):
        with pytest.raises(UnknownLayout) as caught:
            read_of_queue(text)
        assert str(caught.value).startswith(f"{FILE}: layout ")
        assert f" needs {who}" in str(caught.value)
        assert f"this is ddmq {__version__}" in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "priority: 7\n",
        "{priority: 7}\n",
        f"# {LAYOUT_LINE}\n",
        f" {LAYOUT_LINE}\n",
        f"'layout': {LAYOUT}\n",
        f"{{layout: {LAYOUT}}}\n",
        f"layout{LAYOUT}\n",
        f"Layout: {LAYOUT}\n",
        f"{LAYOUT_LINE}\n{LAYOUT_LINE}\n",
        f"{LAYOUT_LINE}\nlayout : 2\n",
        "layout:\n",
        "layout:2\n",
        "layout: 0\n",
        "layout: 02\n",
        "layout: -2\n",
        "layout: 2.0\n",
        "layout: 0x2\n",
        "layout: true\n",
        "layout: '2'\n",
        "layout: [2]\n",
        "layout: {a: 1}\n",
        "layout: \u0662\n",
        "layout: 2 (ddmq)\n",
        "layout: 2 (ddmq 1.0.0) and more\n",
        "layout: 2 (ddmq \x1b[2J)\n",
        f"layout: 2 (ddmq {'1' * 99})\n",
        f"layout: {'9' * 50_000}\n",
        f"{LAYOUT_LINE}\rpriority: 5\n",
        f"{LAYOUT_LINE} # a\rpriority: 5\n",
        f"{LAYOUT_LINE} # a\u2028priority: 5\n",
        f"\ufeff{LAYOUT_LINE}\n",
    ],
    ids=repr,
)
def test_a_file_that_names_no_layout_is_answered_with_the_line_to_write(text):
    with within(2), pytest.raises(InvalidSettings) as caught:
        read_of_queue(text)
    assert str(caught.value).startswith(FILE)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert LAYOUT_LINE in str(caught.value) or "keep the one" in str(caught.value)


@pytest.mark.parametrize("text", [LAYOUT_LINE, "layout: 3 (ddmq 1.4.0)\n"])
def test_what_is_no_file_of_a_queue_names_no_layout(text):
    with pytest.raises(InvalidSettings, match="layout is no setting; leave it out"):
        read(text)
    with pytest.raises(InvalidSettings, match="layout is no setting; leave it out"):
        read_of_queue(f"{LAYOUT_LINE}\n'layout': 2\n")


LAID_OUT = f"{LAYOUT_LINE}  # as it was"


@pytest.mark.parametrize(
    "text",
    [
        f"{LAID_OUT}\n",
        f"# ours\n{LAID_OUT}\npriority: 5\n",
        f"priority: 5\nrequeue: false\n{LAID_OUT}",
        f"'priority': 5\n{LAID_OUT}\nrequeue: false\n",
        f"priority:\n  5\nrequeue: false\n{LAID_OUT}\n",
        f"priority: 4\npriority: 5\n{LAID_OUT}\n",
        f"? priority\n: 5\n{LAID_OUT}\n",
    ],
)
@pytest.mark.parametrize(
    ("changes", "unset"), [({"priority": 7}, ()), ({}, list(SETTINGS))]
)
def test_an_edit_keeps_the_layout_byte_for_byte(text, changes, unset):
    before = read_of_queue(text)
    after = edited(text, changes, unset, of_queue=True)
    assert after.split("\n").count(LAID_OUT) == 1
    assert read_of_queue(after) == ({} if unset else {**before, **changes})


def test_a_file_of_a_later_layout_is_not_edited():
    with pytest.raises(UnknownLayout):
        edited("layout: 3 (ddmq 1.4.0)\n", {"priority": 1}, [], FILE, of_queue=True)


@given(st.text() | _scalars.map("layout: {}".format))
def test_any_text_of_a_queue_is_settings_or_a_reason(text):
    data = text.encode("utf-8", "surrogatepass")
    assert set(read_or_refused(data, of_queue=True)) <= set(SETTINGS)


def test_a_key_that_was_meant_is_named():
    for key, meant in (
        ("timeout", "message_timeout or lock_timeout"),
        ("message_tmeout", "message_timeout"),
        ("prio", "priority or requeue_prio"),
    ):
        with pytest.raises(InvalidSettings) as caught:
            checked({key: 1}, FILE)
        assert f"; did you mean {meant}?; known are " in str(caught.value)
