import json
import shutil
from pathlib import Path

import pytest

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.suite import Turntable
from gs_ssd.lab.reproduce import origin
from gs_ssd.lab.reproduce.origin import metrics_version, origin_of_prior, origins, short_hash
from gs_ssd.prior import BUNDLED, PriorConfig


@pytest.fixture
def model(tmp_path) -> Path:
    """A folder that looks like a prior, with a file of weights and a recipe."""
    folder = tmp_path / "mine"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"one")
    (folder / "gs_ssd.json").write_text(json.dumps({"recipe": {"M": 400}}))
    return folder


@pytest.fixture(autouse=True)
def _forget() -> None:
    origin._hash_of_weights.cache_clear()
    origin._locate.cache_clear()


def test_weights_and_recipe_have_a_hash_each(model):
    before = origin_of_prior(PriorConfig(model=str(model)))
    assert before["weights"].startswith("mine ")
    (model / "gs_ssd.json").write_text(json.dumps({"recipe": {"M": 300}}))
    recipe = origin_of_prior(PriorConfig(model=str(model)))
    assert recipe["weights"] == before["weights"]
    assert recipe["recipe"] != before["recipe"]
    origin._hash_of_weights.cache_clear()
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"two")
    assert origin_of_prior(PriorConfig(model=str(model)))["weights"] != before["weights"]


def test_a_copy_under_another_name_has_the_same_hash(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    hashes = [
        origin_of_prior(PriorConfig(model=str(path)))["weights"].split()[1]
        for path in (model, tmp_path / "copy")
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.skipif(
    not (BUNDLED / "model_index.json").is_file(), reason="the bundled prior is not in this checkout"
)
def test_the_bundled_prior_and_the_exact_one_are_named():
    assert origin_of_prior(PriorConfig())["weights"].startswith("bundled ")
    assert origin_of_prior(PriorConfig(model="analytic")) == {"weights": "analytic", "recipe": ""}
    with pytest.raises(UserError, match="nothing at"):
        origin_of_prior(PriorConfig(model="./nowhere"))


def test_settings_count_as_they_are_resolved(tmp_path):
    """A comment changes nothing, the seed and the output neither; a value does, wherever it is
    written."""
    path, parent = tmp_path / "a.yaml", tmp_path / "base.yaml"
    parent.write_text("prior: {model: analytic}\nnum_steps: 20\n")
    path.write_text("extends: base\n")
    first = origins(path)(["seed=0"])["config"]
    path.write_text("# now with a remark\nextends: base\n")
    assert origins(path)(["seed=1", "output.preview_every=7", "num_steps=20"])["config"] == first
    assert origins(path)(["guidance.M=300"])["config"] != first
    parent.write_text("prior: {model: analytic}\nnum_steps: 21\n")
    assert origins(path)([])["config"] != first
    with pytest.raises(UserError, match=r"guidance\.MM"):
        origins(path)(["guidance.MM=3"])


def test_a_setting_that_came_later_counts_where_it_changes_something(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("prior: {model: analytic}\n")
    made = origins(path)
    settings = configs.to_mapping(configs.load(path, []))
    for section, name in origin.ADDED:
        del settings[section][name]
    kept = {name: value for name, value in settings.items() if name not in origin.IRRELEVANT}
    without = short_hash(json.dumps(kept, sort_keys=True).encode())
    assert (
        made([])["config"]
        == made(["prior.variety=0", "nerf.finish.edge=[0.6,0.7]"])["config"]
        == without
    )
    assert made(["prior.variety=0.5"])["config"] != without


def test_the_metrics_version_covers_the_judge_and_the_measuring_code(tmp_path, monkeypatch):
    before = metrics_version()
    assert before != metrics_version(Turntable(views=4)) == metrics_version(Turntable(views=4))
    assert before == metrics_version.__wrapped__()
    for part in ("lab/evaluate", "lab/world"):
        shutil.copytree(origin.PACKAGE / part, tmp_path / part)
    monkeypatch.setattr(origin, "PACKAGE", tmp_path)
    assert metrics_version.__wrapped__() == before
    for name in ("statistics.py", "parts.py", "measure.py"):
        known = metrics_version.__wrapped__()
        with (tmp_path / "lab/evaluate" / name).open("a") as file:
            file.write("# changed\n")
        assert metrics_version.__wrapped__() != known
