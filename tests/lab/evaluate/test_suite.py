import json
import math

import pytest

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.suite import load_suite, parse_suite, suite_names


def test_our_suites_load_and_have_three_seeds_and_the_check_s_cameras():
    for name in suite_names():
        suite = load_suite(name)
        assert suite.seeds == (0, 1, 2)
        assert [round(math.degrees(a), 6) for a in suite.turntable.azimuths_rad()] == [22.5 * i for i in range(16)]
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


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "not readable"),
        ('{"seeds": [0]}', "prompts"),
        ('{"seeds": [0], "prompts": []}', "needs prompts"),
        ('{"seeds": [0], "prompts": [{"prompt": "a"}, {"prompt": "A"}]}', "each of them once"),
        ('{"seeds": [0], "sedes": 1, "prompts": [{"prompt": "a"}]}', "sedes"),
    ],
)
def test_a_broken_suite_says_what_is_wrong(text, word):
    with pytest.raises(UserError, match=word):
        parse_suite("broken", text)


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(UserError, match="quick"):
        load_suite("quik")
