"""Configs: precedence, presets, round trips, and one clear message for everything that is wrong."""

import re
from pathlib import Path

import pytest
import yaml

from gs_ssd import config as configs
from gs_ssd import layers
from gs_ssd.errors import UserError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_command_line_wins_over_yaml_over_preset_over_defaults(tmp_path):
    write(
        tmp_path / "base.yaml",
        "seed: 1\nnum_steps: 10\nprompt: base\ndensify: {adaptive: {every: 7, start_share: 0.09}}",
    )
    file = write(
        tmp_path / "mine.yaml",
        "extends: base\nseed: 2\nprompt: mine\ndensify: {adaptive: {every: 8}}",
    )
    config = configs.load(file, ["seed=3", "viewpoints.radius=[1, 2.5]", "guidance.M=300"])
    assert (config.seed, config.prompt, config.num_steps) == (3, "mine", 10)
    assert (config.densify.adaptive.every, config.densify.adaptive.start_share) == (8, 0.09)
    assert config.densify.adaptive.threshold == 7.5e-4
    assert config.viewpoints.radius == (1.0, 2.5)
    assert config.guidance.M == 300


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_survives_a_round_trip(path, tmp_path):
    config = configs.load(path)
    configs.save(config, tmp_path / "config.yaml")
    assert configs.load(tmp_path / "config.yaml") == config


def test_the_defaults_survive_a_round_trip(tmp_path):
    config = configs.load(None)
    assert configs.load(write(tmp_path / "a.yaml", configs.to_yaml(config))) == config


@pytest.mark.parametrize(
    "text",
    [
        "a mug #1",
        "on",
        "null",
        "1e3",
        "Zombie: head",
        "[a mug",
        '"a" mug',
        "x = y",
        "a mug, {blue}",
        "'tis a mug",
    ],
)
def test_a_prompt_is_taken_word_for_word_and_comes_back_from_its_file(text, tmp_path):
    config = configs.load(None, ["seed=1", f"prompt={text}"])
    assert (config.prompt, config.seed) == (text, 1)
    configs.save(config, tmp_path / "config.yaml")
    assert configs.load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", r"no key 'sed'; did you mean seed\?"),
        ("steps=6", r"did you mean num_steps\?"),
        ("optimizer.mean=[1, 2]", r"did you mean optimizer\.means\?"),
        ("adaptive.every=3", r"did you mean densify\.adaptive\.every"),
        ("densify.adaptive.stop=3000", r"did you mean densify\.adaptive\.stop_share\?"),
        ("entirely_else=3", "--dry-run"),
        ("seed=many", "^seed is 'many'; it must be a whole number$"),
        ("seed=1.5", "^seed is 1.5; it must be a whole number$"),
        ("num_steps='2'", "^num_steps is '2'; it must be a whole number$"),
        ("num_steps=true", "^num_steps is true; it must be a whole number$"),
        ("output.depth=3", "^output.depth is 3; it must be true or false$"),
        ("output.depth=on", "^output.depth is 'on'; it must be true or false$"),
        ("output.wandb=no", "names a project.*null turns it off"),
        ("guidance.M=null-ish", r"guidance\.M is 'null-ish'; it must be a whole number or null"),
        (
            "guidance.estimator=sdss",
            r"guidance\.estimator is 'sdss'; choose one of ssd, .*did you mean sds\?",
        ),
        (
            "densify.policy=adapt",
            r"densify\.policy is 'adapt'; it must be one of 'adaptive', 'mcmc', 'none'",
        ),
        ("densify=3", r"densify is a section"),
        (
            "viewpoints.radius=[1, 2, 3]",
            r"viewpoints\.radius is \[1, 2, 3\]; it must be a list of 2 or null",
        ),
        (
            "viewpoints.radius=[5, 4]",
            r"viewpoints\.radius is \[5, 4\]; put the smaller number first",
        ),
        (
            "viewpoints.widening.azimuth_limits_deg=[9, -9]",
            r"azimuth_limits_deg is \[9, -9\]; put the smaller",
        ),
        ("viewpoints.image_size=0", r"image_size is 0; it must be within 16..4,096 or null"),
        (
            "output.polar_deg=[]",
            r"output\.polar_deg is \[\]; it must be a list that is not empty or null",
        ),
        ("densify.mcmc.gate=-1", r"gate is -1; it must be within"),
        (
            "optimizer.means=[1e30,1e30]",
            r"optimizer\.means is \[1e\+30, 1e\+30\]; 1e\+30 must be within 0..10",
        ),
        (
            "initialize.num_points=100000000000",
            r"num_points is 100000000000; it must be within 4..20,000,000",
        ),
        ("regularize.binarize=[1, 2]", r"regularize\.binarize is \[1, 2\]; 1 must be a list"),
        (
            "regularize.binarize=[[0, high]]",
            r"regularize\.binarize is \[\[0, 'high'\]\]; 'high' must be a number",
        ),
        ("prior.lora=[1]", r"prior\.lora is \[1\]; 1 must be text"),
        ("num_steps=0", "num_steps is 0; it must be within 1..10,000,000"),
        ("output.keep_checkpoints=0", "keep_checkpoints"),
        ("seed", "no override"),
        ("seed=[1", "the value of 'seed=\\[1' is not readable YAML"),
        ("prompt=a \udcff mug", "^prompt is 'a .udcff mug'; it holds bytes that are no text$"),
        ('initialize.file="a\\0b"', "it holds bytes that are no text"),
    ],
)
def test_bad_overrides_get_one_clear_message(override, message):
    with pytest.raises(UserError, match=message) as caught:
        configs.load(None, [override])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError) as of_a_loaded_one:
        configs.varied(configs.load(None), [override])
    assert str(of_a_loaded_one.value) == str(caught.value)


@pytest.mark.parametrize(
    ("override", "form"),
    [
        ("prior.lora=a.safetensors", "prior.lora=[a.safetensors]"),
        ("prior.lora=a.safetensors,b.safetensors", "prior.lora=[a.safetensors, b.safetensors]"),
        ("prior.textual_inversion=no", "prior.textual_inversion=['no']"),
        ("avatar.poses.clips=walk", "avatar.poses.clips=[walk]"),
        ("viewpoints.radius=4", "viewpoints.radius=[4, 4]"),
        ("viewpoints.radius=3,4.5", "viewpoints.radius=[3, 4.5]"),
        ("initialize.color=0.5", "initialize.color=[0.5, 0.5, 0.5]"),
        ("optimizer.scale_floor=0.001", "optimizer.scale_floor=[[0, 0.001]]"),
        ("regularize.binarize=[0.5, 2]", "regularize.binarize=[[0.5, 2]]"),
        ("guidance.t_schedule=[0, 0.02, 0.98]", "guidance.t_schedule=[[0, 0.02, 0.98]]"),
    ],
)
def test_a_plain_value_where_a_list_belongs_is_shown_as_a_list_that_works(override, form, tmp_path):
    with pytest.raises(UserError, match=f"must be a list.*; write {re.escape(form)}$"):
        configs.load(None, [override])
    configs.load(None, [form])
    key, _, value = override.partition("=")
    section = f"{key.replace('.', ': {')}: {value}{'}' * key.count('.')}"
    if "," not in value:
        file = write(tmp_path / "a.yaml", section)
        listed = re.escape(form.partition("=")[2])
        with pytest.raises(UserError, match=rf"a\.yaml: .*must be a list.*; write {listed}$"):
            configs.load(file)


@pytest.mark.parametrize(
    "override",
    ["finish.edge=0.5", "prior.lora=true", "output.polar_deg=500", "avatar.poses.clips=walkk"],
)
def test_no_list_is_shown_that_would_be_refused_too(override):
    with pytest.raises(UserError, match=r"must be a list( or null)?$"):
        configs.load(None, [override])


def test_a_loaded_experiment_varies_as_its_file_does(tmp_path):
    text = "num_steps: 7\nguidance: {M: 300, t_schedule: [[0, 0.02, 0.98], [1, 0.02, 0.5]]}"
    file, before = write(tmp_path / "a.yaml", text), configs.load(tmp_path / "a.yaml")
    overrides = ["guidance={}", "guidance={M: 5}", "prompt=a: {b}", "viewpoints.radius=[1, 2]"]
    overrides += ["guidance.M=null", "guidance.scale=2", "output.wandb='1'"]
    assert configs.varied(before, overrides) == configs.load(file, overrides)
    assert before == configs.load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1", r"bad\.yaml is not readable YAML: line 1"),
        ("- 1\n- 2", r"bad\.yaml holds a list"),
        ("seed: 1\nseed: 2", "line 2: the key 'seed' stands there twice"),
        (
            "extends: nowhere",
            (
                r"bad\.yaml extends .*nowhere\.yaml, which is not there; give a path relative to"
                r" bad\.yaml"
            ),
        ),
        ("extends: bad", "circle"),
        ("extends: [a]", "one file"),
        ("densify: {adaptive: {evry: 2}}", r"did you mean densify\.adaptive\.every"),
        ("num_steps: 0", r"bad\.yaml: num_steps is 0; it must be"),
        ("prompt: 5", r"bad\.yaml: prompt is 5; it must be text \(in a file: in quotes\)"),
        ("prompt: true", r"bad\.yaml: prompt is true; it must be text"),
        ("num_steps: 1:30", r"num_steps is '1:30'; it must be a whole number"),
        ("output: {depth: yes}", r"output\.depth is 'yes'; it must be true or false"),
        (
            "augment: {background_random: 0.9}",
            r"bad\.yaml: augment\.background_random=0\.9 and augment\.",
        ),
    ],
)
def test_bad_files_get_one_clear_message(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        configs.load(write(tmp_path / "bad.yaml", text))


def test_the_file_that_has_the_last_word_on_a_key_is_named(tmp_path):
    write(tmp_path / "parent.yaml", "seed: 1\nnum_steps: 0")
    child = write(tmp_path / "child.yaml", "extends: parent\nseed: many")
    with pytest.raises(UserError, match=r"child\.yaml: seed is 'many'"):
        configs.load(child)
    with pytest.raises(UserError, match=r"parent\.yaml: num_steps is 0"):
        configs.load(child, ["seed=1"])


def test_text_on_the_command_line_is_taken_word_for_word_unless_it_is_in_quotes():
    for given, taken in (
        ("a red #1 mug", "a red #1 mug"),
        ("5", "5"),
        ("'5: a'", "5: a"),
        ("null", None),
        ("", None),
    ):
        assert configs.load(None, [f"initialize.text={given}"]).initialize.text == taken


def test_what_a_comment_cuts_is_said(tmp_path, caplog):
    assert (
        configs.load(write(tmp_path / "a.yaml", "seed: 1\nprompt: a red #1 disc")).prompt == "a red"
    )
    assert "line 2: 'a red' ends where YAML sees a comment, '#1 disc'" in caplog.text


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "quickstart.yaml", "seed: 1")
    with pytest.raises(UserError, match=r"did you mean .*quickstart\.yaml"):
        configs.load(tmp_path / "quickstar.yaml")


def test_scientific_numbers_are_numbers(tmp_path):
    file = write(tmp_path / "a.yaml", "optimizer: {means: [1e-3, 5.6E-6]}")
    assert configs.load(file).optimizer.means == (1e-3, 5.6e-6)


def test_yaml_lists_every_key_and_differences_name_what_changed():
    old, new = configs.load(None), configs.load(None, ["guidance.M=5", "seed=4"])
    assert configs.differences(old, new) == {"seed": (0, 4), "guidance.M": (None, 5)}
    keys = dict(layers.leaves(yaml.safe_load(configs.to_yaml(old))))
    assert {"densify.mcmc.budget", "prior.model", "viewpoints.widening.every_share"} <= set(keys)
