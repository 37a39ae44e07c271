import json
import math
import os

import pytest

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.suite import Entry, load_suite, parse_suite, suite_names


def test_our_suites_load_and_have_three_seeds_and_the_check_s_cameras():
    for name in suite_names():
        suite = load_suite(name)
        assert suite.seeds == (0, 1, 2)
        assert [round(math.degrees(a), 6) for a in suite.turntable.azimuths_rad()] == [
            22.5 * i for i in range(16)
        ]
        elevations = [round(90 - math.degrees(p), 6) for p in suite.turntable.polars_rad()]
        assert elevations == [(0, 15, 30)[i % 3] for i in range(16)]


def test_the_quick_suite_is_twenty_kinds_in_all_colours():
    entries = load_suite("quick").entries
    assert len(entries) == len({entry.kind for entry in entries}) == 20
    assert len({entry.color for entry in entries}) == 12
    assert all(entry.prompt.endswith(f"{entry.color} {entry.kind}") for entry in entries)


def test_held_out_prompts_are_not_development_prompts():
    tuned = {entry.prompt for entry in load_suite("dev").entries}
    full = {entry.prompt for entry in load_suite("full").entries}
    assert len(full) == 40
    assert not tuned & full
    assert {entry.prompt for entry in load_suite("quick").entries} <= full


def test_a_suite_of_one_s_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"seeds": [7], "prompts": [{"prompt": "A hamburger, 4k!"}]}))
    suite = load_suite(str(path))
    assert suite.name == "mine"
    assert suite.entries[0].slug == "a-hamburger-4k"
    assert suite.entries[0].kind is None


GOOD = {"seeds": [0], "prompts": [{"prompt": "a red disc"}]}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"prompts": [{"prompt": "a red\nmug"}]}, "prompt is .*; it must be text in one line"),
        ({"seeds": None}, "seeds is None"),
        ({"seeds": "ab"}, "seeds is 'ab'"),
        ({"seeds": []}, r"seeds is \[\]"),
        ({"seeds": [0, 0]}, "seeds is .* each value once"),
        ({"seeds": [True]}, "seeds is True"),
        ({"seeds": [0.5]}, "seeds is 0.5"),
        ({"seeds": [-1]}, "seeds is -1"),
        ({"seeds": [2**63]}, "seeds is 9223"),
        ({"views": 0}, "views is 0; it must be a whole number from 1"),
        ({"views": 10**9}, "views is 1000000000"),
        ({"views": "16"}, "views is '16'"),
        ({"elevations_deg": []}, "elevations_deg"),
        ({"elevations_deg": [math.nan]}, "elevations_deg is nan"),
        ({"elevations_deg": [91]}, "elevations_deg is 91"),
        ({"elevations_deg": 15}, "elevations_deg is 15"),
        ({"estimators": []}, "estimators"),
        ({"estimators": [1]}, "estimators is 1"),
        ({"about": 3}, "about is 3"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["a red disc"]}, "an entry of prompts is 'a red disc'"),
        ({"prompts": [{}]}, "the prompt of an entry is missing"),
        ({"prompts": [{"prompt": " "}]}, "prompt is ' '"),
        ({"prompts": [{"prompt": "!?"}]}, "letter or digit"),
        ({"prompts": [{"prompt": "\ud800 disc"}]}, "prompt is .* it must be text"),
        ({"prompts": [{"prompt": "a"}, {"prompt": "A"}]}, "listed once"),
        ({"prompts": [{"prompt": "a", "kind": "car"}]}, "color is missing"),
        ({"prompts": [{"prompt": "a", "color": "red"}]}, "kind is missing"),
        (
            {"prompts": [{"prompt": "a", "kind": "dragon", "color": "red"}]},
            "kind is 'dragon'; .* one of .*car",
        ),
        (
            {"prompts": [{"prompt": "a", "kind": "car", "color": "reddish"}]},
            "color is 'reddish'; .* one of .*red",
        ),
        ({"prompts": [{"prompt": "a", "colour": "red"}]}, "unknown key 'colour'"),
        ({"sedes": 1}, "unknown key 'sedes'"),
    ],
)
def test_a_value_that_no_benchmark_can_run_with_is_refused_by_its_key(change, word):
    parse_suite("good", json.dumps(GOOD))
    with pytest.raises(UserError, match=f"the suite 'broken'.*{word}"):
        parse_suite("broken", json.dumps(GOOD | change))


@pytest.mark.parametrize("missing", ["seeds", "prompts"])
def test_what_a_suite_must_have(missing):
    with pytest.raises(UserError, match=f"{missing} is missing"):
        parse_suite(
            "broken", json.dumps({key: value for key, value in GOOD.items() if key != missing})
        )


@pytest.mark.parametrize(
    "text", ["[", "", "[]", "3", "null", "[" * 100_000, '{"seeds": [' + "9" * 5000 + "]}"]
)
def test_text_that_is_no_suite_is_a_sentence(text):
    with pytest.raises(UserError, match="the suite 'broken'"):
        parse_suite("broken", text)


def test_a_file_that_is_no_text_or_no_file_is_a_sentence(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"about": "caf\xe9"}')
    with pytest.raises(UserError, match=r"a\.json is not UTF-8 \(byte 14\)"):
        load_suite(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="a pipe"):
        load_suite(str(path))
    with pytest.raises(UserError, match="cannot read the suite"):
        load_suite(str(tmp_path / "nowhere.json"))
    (tmp_path / "bom.json").write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert load_suite(str(tmp_path / "bom.json")).seeds == (0,)


def test_a_long_prompt_names_a_folder_that_can_be_made_and_is_its_own(tmp_path):
    long = [Entry(f"{'ab ' * 200}{i}").slug for i in range(2)] + [Entry("\u7ea2" * 300).slug]
    assert len(set(long)) == 3
    for slug in long:
        (tmp_path / f"{slug}.fingerprint").write_text("")


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(UserError, match="quick"):
        load_suite("quik")
