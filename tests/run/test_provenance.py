"""What a run was made with: it is written down, and a resumed run is told what is new."""

import json
from pathlib import Path

import torch

from gs_ssd import config as configs
from gs_ssd.config import ExperimentConfig
from gs_ssd.guidance.prompts import LUCID_NEGATIVE
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.run import environment
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


def smoke(*overrides: str) -> ExperimentConfig:
    return configs.load(SMOKE, ["output.turntable_frames=0", "output.preview_every=0", *overrides])


def test_a_run_says_what_it_was_made_with_and_a_resumed_one_what_is_new(tmp_path, caplog):
    Trainer(smoke("num_steps=4"), tmp_path).fit(until=2)
    kept = json.loads((tmp_path / "environment.json").read_text())
    assert (kept["torch"], kept["device"], kept["prior"]) == (
        torch.__version__,
        "cpu",
        "AnalyticPrior",
    )
    (tmp_path / "environment.json").write_text(json.dumps(kept | {"torch": "0.4"}))
    assert "resuming" not in caplog.text
    Trainer(smoke("num_steps=4"), tmp_path, resume=True).fit()
    assert f"resuming with torch {torch.__version__} (it was 0.4)" in caplog.text
    again = json.loads((tmp_path / "environment.json").read_text())
    assert again == kept | {"until_step_2": {"torch": "0.4"}}
    (tmp_path / "environment.json").write_text(json.dumps(again | {"device": "abacus"}))
    Trainer(smoke("num_steps=5"), tmp_path, resume=True).fit()
    last = json.loads((tmp_path / "environment.json").read_text())
    assert last == again | {"until_step_4": {"device": "abacus"}}


def test_a_resume_that_was_killed_before_a_step_made_nothing(tmp_path):
    path = tmp_path / "environment.json"
    environment.write(path, {"torch": "1"})
    environment.write(path, {"torch": "2"}, completed=5)
    environment.write(path, {"torch": "3"}, completed=5)
    assert environment.recall(path) == {"torch": "3", "until_step_5": {"torch": "1"}}
    environment.write(path, {"torch": "4"})  # another run in its place
    assert environment.recall(path) == {"torch": "4"}


def test_what_settings_left_open_became_is_kept_and_a_resume_says_what_is_new(tmp_path, caplog):
    prior = AnalyticPrior.discs()
    prior.metadata = {
        "camera": {"fov_y_deg": [38, 42]},
        "recipe": {"M": 300, "t_schedule": [[0, 0.1, 1]]},
    }
    open_ones = (
        "guidance.M",
        "guidance.t_schedule",
        "viewpoints.radius",
        "viewpoints.fov_y_deg",
        "viewpoints.polar_deg",
    )
    config = smoke(
        "num_steps=4", "guidance.weighting=uniform", *(f"{key}=null" for key in open_ones)
    )
    Trainer(config, tmp_path, prior=prior).fit(until=2)
    kept = json.loads((tmp_path / "environment.json").read_text())
    settings = {key: value for key, value in kept.items() if "." in key}
    assert settings == {
        "prior.dtype": "float32",
        "prior.image_size": 64,
        "guidance.M": 300,
        "guidance.t_schedule": [[0, 0.1, 1]],
        "guidance.trajectory": "noise",
        "guidance.reference": "drawn",
        "guidance.prompts.negative": LUCID_NEGATIVE,
        "viewpoints.image_size": 64,
        "viewpoints.radius": [5.2, 5.5],
        "viewpoints.fov_y_deg": [38, 42],
        "viewpoints.polar_deg": [45, 105],
        "viewpoints.widening.every_share": 0,
        "output.polar_deg": [75],
        "output.radius": 5.35,
        "output.fov_y_deg": 40,
    }
    prior.metadata["recipe"]["M"] = 500
    Trainer(config, tmp_path, prior=prior, resume=True).fit(until=3)
    assert caplog.text.count("resuming with") == 1
    assert "resuming with guidance.M 500 (it was 300)" in caplog.text


def test_an_estimator_that_guides_by_a_scale_keeps_its_own(tmp_path):
    Trainer(smoke("num_steps=1", "guidance.estimator=sds"), tmp_path).fit()
    kept = json.loads((tmp_path / "environment.json").read_text())
    assert (kept["guidance.cfg_scale"], kept["guidance.weighting"]) == (101, "sigma2")


def test_a_resume_under_another_number_of_threads_says_so(tmp_path, caplog):
    threads = torch.get_num_threads()
    Trainer(smoke("num_steps=4"), tmp_path).fit(until=2)
    try:
        torch.set_num_threads(threads + 1)
        Trainer(smoke("num_steps=4"), tmp_path, resume=True).fit()
    finally:
        torch.set_num_threads(threads)
    assert f"resuming with threads {threads + 1} (it was {threads}): not the numbers" in caplog.text
