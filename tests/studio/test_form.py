"""The form says what the dataclasses say: every key, its type, bounds, choices and docs."""

import dataclasses

import pytest

from gs_ssd import config as configs
from gs_ssd.assets.choice import ASSETS
from gs_ssd.errors import UserError
from gs_ssd.guidance.estimators import ESTIMATORS
from gs_ssd.studio import checks, form, presets


def field(key: str) -> dict:
    return next(field for field in form.fields() if field["key"] == key)


def test_every_setting_is_there_once_with_its_default():
    keys = [field["key"] for field in form.fields()]
    assert sorted(keys) == sorted(configs.known_keys())
    assert all(f["default"] == configs.known_keys()[f["key"]][1] for f in form.fields())


def test_types_bounds_choices_and_docs_are_the_dataclasses():
    assert set(field("asset")["choices"]) == set(ASSETS)
    assert field("guidance.estimator")["choices"] == list(ESTIMATORS)
    assert field("prior.dtype") == field("prior.dtype") | {"kind": "choice", "open": True}
    assert field("output.depth")["kind"] == "bool"
    assert field("initialize.opacity")["bounds"] == "above 0 and below 1"
    assert field("guidance.t_schedule")["kind"] == "list"
    assert "Pixels" in field("output.turntable_size")["about"]
    assert "what guides" not in form.sections()
    assert set(form.sections()) >= {f.name for f in dataclasses.fields(configs.ExperimentConfig)
                                    if dataclasses.is_dataclass(f.default_factory)}  # fmt: skip


def test_most_settings_are_explained():
    explained = [field for field in form.fields() if field["about"]]
    assert len(explained) > len(form.fields()) / 2


def test_every_choice_of_the_form_is_taken():
    for entry in form.fields():
        for word in entry.get("choices", []):
            said = ""
            try:
                configs.load(None, [f"{entry['key']}={word}"])
            except UserError as error:  # it may need another setting beside it
                said = str(error)
            assert "one of" not in said


def test_every_preset_can_be_read_and_the_first_is_the_quickstart():
    described = presets.described()
    assert len(described) == len(presets.PRESETS)
    assert described[0]["settings"]["num_steps"] == 60
    for preset in described:
        checks.compose("a red mug", preset["name"], {}, None)


def test_settings_of_a_request_are_read_as_the_command_line_reads_them():
    words = {"num_steps": "7", "guidance.M": 250, "prior.dtype": "float32", "seed": None}
    words.pop("seed")
    ours = checks.compose("a ${red} mug = b", "quick", words, None)
    path = presets.path_of("quick")
    theirs = configs.load(path, ["num_steps=7", "guidance.M=250", "prior.dtype=float32",
                                 "prompt=a ${red} mug = b"])  # fmt: skip
    assert ours == theirs


def test_a_request_over_anothers_settings_changes_only_what_it_names():
    base = configs.to_mapping(configs.load(presets.path_of("quick"), ["seed=5"]))
    config = checks.compose("a blue mug", None, {"guidance.estimator": "csd"}, base)
    before = configs.from_mapping(base, "test")
    assert set(configs.differences(before, config)) == {"prompt", "guidance.estimator"}


@pytest.mark.parametrize(("key", "value"), [("initialize.file", "/etc/passwd"),
                                            ("prior.lora", ["/etc/passwd"]),
                                            ("prior.model", "../..")])  # fmt: skip
def test_a_server_for_others_reads_no_files_outside(tmp_path, key, value):
    config = checks.compose("a mug", None, {key: value}, None)
    with pytest.raises(UserError, match=key):
        checks.refuse_paths(config, tmp_path)
    inside = checks.compose("a mug", None, {"initialize.file": str(tmp_path / "a.ply")}, None)
    checks.refuse_paths(inside, tmp_path)


def test_the_vocabulary_is_the_cards():
    known = checks.vocabulary("bundled")
    assert {"mushroom", "toadstool"} <= set(known["kinds"])
    assert "red" in known["colors"]
    assert "person" in checks.vocabulary("person")["kinds"]
    assert checks.vocabulary("sd21-base")["kinds"] == []
