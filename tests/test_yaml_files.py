"""YAML 1.2: scalars mean what its core schema says, and hostile files end in a sentence, soon and
in little memory."""

import math
import time
import tracemalloc

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gs_ssd import yaml_files
from gs_ssd.errors import UserError


def read(text: str) -> object:
    return yaml_files.parse(text, "file.yaml").value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            (text, text)
            for text in ("1:30", "on", "no", "yes", "off", "y", "0b1", "2001-01-01", "-0x1F", "=")
        ],
        *[("010", 10), ("0o10", 8), ("0x1F", 31), ("+3", 3), ("100_000", 100_000), ("-0", 0)],
        *[
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            (".5", 0.5),
            ("-.5e1", -5.0),
            ("3.", 3.0),
            (".inf", math.inf),
        ],
        *[
            ("true", True),
            ("FALSE", False),
            ("null", None),
            ("~", None),
            ("", None),
            ("'5'", "5"),
            ('"on"', "on"),
        ],
    ],
)
def test_scalars_are_those_of_the_core_schema(text, value):
    found = read(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_text_and_sections_can_be_merged():
    assert read("1: a\non: b\n") == {"1": "a", "on": "b"}
    assert read("b: &b {x: 1, z: 2}\nc: {<<: *b, z: 3}")["c"] == {"x": 1, "z": 3}


@example("\x85")
@example("one\u2028two")
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_for_readers_of_1_1_and_1_2(text):
    written = yaml_files.dump({"prompt": text})
    assert read(written) == {"prompt": text} == yaml.safe_load(written)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("a: a red #1 disc", ["line 1: 'a red' ends where YAML sees a comment, '#1 disc'"]),
        ("a: a red # 1 disc", ["line 1: 'a red' ends where YAML sees a comment, '# 1 disc'"]),
        ("a:\n  - x #y\n  - z", ["line 2: 'x' ends where"]),
        ("a: no", ["line 1: no is a word"]),
        *[
            (quiet, [])
            for quiet in (
                "a: a red disc  # the demo",
                "a: 4 # four",
                "a: 'x #1'",
                "on: 1",
                "a: |\n  b #c\n",
            )
        ],
    ],
)
def test_what_the_author_may_have_meant_otherwise_is_said(text, notes):
    found = yaml_files.parse(text, "file.yaml").notes
    assert len(found) == len(notes)
    assert all(note.startswith(start) for note, start in zip(found, notes, strict=True))


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n" for i in range(20)
)
HOSTILE = {
    "aliases that double": (BOMB, "more than 10000 values"),
    "lists in lists": ("[" * 200_000, "more than 32 lists"),
    "sequences in sequences": ("- " * 100_000, "more than 32 lists"),
    "mappings in mappings": ("{a: " * 60_000, "more than 32 lists"),
    "keys in keys": ("? " * 100_000, "more than 32 lists"),
    "a long list": ("[" + "1," * 12_000 + "]", "more than 10000 values"),
    "a long file": ("a: " + "x" * 1_000_000, "longer than 256 KiB"),
    "a long number": ("a: " + "9" * 5000, "more than 400 digits"),
    "itself": ("a: &a [*a]", "inside itself"),
    "a tag": ("a: !!python/name:os.system", "the tag"),
    "a word as a number": ("a: !!int x", "the tag"),
    "a list as a key": ("? [a, b]\n: 1", "a key is a list"),
    "braces of a template": ("prompt: {{a}}", "a key is a list"),
    "a key twice": ("a: 1\na: 2", "line 2: the key 'a' stands there twice"),
    "nothing of that name": ("a: *b", "undefined alias"),
    "two documents": ("--- 1\n--- 2", "another document"),
    "a zero byte": ("a: \0", "not allowed"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_end_in_a_sentence_in_bounded_time_and_memory(text, message):
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(UserError, match=rf"^file\.yaml is .*{message}") as caught:
            yaml_files.parse(text, "file.yaml")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 20  # of seconds; traced, and on a busy machine
    assert "\n" not in str(caught.value)
