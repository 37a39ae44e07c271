"""Configs: precedence, presets, round trips, and one clear message for everything that is wrong."""

from pathlib import Path

import pytest
import yaml

from gs_ssd import config as configs
from gs_ssd.errors import UserError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_command_line_wins_over_yaml_over_preset_over_defaults(tmp_path):
    write(tmp_path / "base.yaml", "seed: 1\nnum_steps: 10\nprompt: base\ndensify: {adaptive: {every: 7, start: 9}}")
    file = write(tmp_path / "mine.yaml", "extends: base\nseed: 2\nprompt: mine\ndensify: {adaptive: {every: 8}}")
    config = configs.load(file, ["seed=3", "viewpoints.radius=[1, 2.5]", "guidance.M=300"])
    assert (config.seed, config.prompt, config.num_steps) == (3, "mine", 10)
    assert (config.densify.adaptive.every, config.densify.adaptive.start) == (8, 9)
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
    ["a mug #1", "on", "null", "1e3", "Zombie: head", "[a mug", '"a" mug', "x = y", "a mug, {blue}", "'tis a mug"],
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
        ("optimizer.mean=[1, 2]", r"did you mean optimizer\.means\?"),
        ("adaptive.every=3", r"did you mean densify\.adaptive\.every"),
        ("entirely_else=3", "--dry-run"),
        ("seed=many", "seed='many' does not fit"),
        ("seed=1.5", "seed=1.5 does not fit"),
        ("densify.policy=adapt", r"densify\.policy='adapt'.*adaptive"),
        ("densify=3", r"densify is a section"),
        ("viewpoints.radius=[1, 2, 3]", r"viewpoints\.radius"),
        ("regularize.binarize=[1, 2]", r"regularize\.binarize=\[1, 2\] does not fit"),
        ("regularize.binarize=[[0, high]]", r"regularize\.binarize holds 'high'"),
        ("num_steps=0", "num_steps is 0"),
        ("output.keep_checkpoints=0", "keep_checkpoints"),
        ("seed", "no override"),
        ("prompt=???", "prompt"),
        ("seed=[1", "not a YAML value"),
    ],
)
def test_bad_overrides_get_one_clear_message(override, message):
    with pytest.raises(UserError, match=message) as caught:
        configs.load(None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1", r"bad\.yaml is not readable YAML.*line 1"),
        ("- 1\n- 2", r"bad\.yaml holds a list"),
        ("seed: 1\nseed: 2", "'seed' stands there twice"),
        (
            "extends: nowhere",
            r"bad\.yaml extends .*nowhere\.yaml, which is not there; give a path relative to bad\.yaml",
        ),
        ("? [a, b]\n: 1", r"bad\.yaml is not readable YAML.*a key is a list"),
        ("prompt: {{a}}", r"bad\.yaml is not readable YAML"),
        ("prompt: &a {x: *a}", r"bad\.yaml is not readable YAML: found unconstructable recursive node"),
        ("extends: bad", "circle"),
        ("extends: [a]", "one file"),
        ("densify: {adaptive: {evry: 2}}", r"did you mean densify\.adaptive\.every"),
    ],
)
def test_bad_files_get_one_clear_message(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        configs.load(write(tmp_path / "bad.yaml", text))


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
    keys = dict(configs.leaves(yaml.safe_load(configs.to_yaml(old))))
    assert {"densify.mcmc.budget", "prior.model", "viewpoints.widening.every"} <= set(keys)
