"""A scheduler without betas is refused by name; one with betas of any class keeps them."""

import json
import shutil

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load

diffusers = pytest.importorskip("diffusers")


def _with(folder, tmp_path, scheduler):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "scheduler")
    scheduler.save_pretrained(str(copy / "scheduler"))
    return PriorConfig(model=str(copy))


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"])
def test_a_scheduler_without_betas_is_refused_by_name(folder, tmp_path, name):
    with pytest.raises(UserError, match=rf"scheduler: {name} has no beta schedule"):
        load(_with(folder, tmp_path, getattr(diffusers, name)()), "cpu")


@pytest.mark.parametrize("name", ["PNDMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
def test_another_class_keeps_its_betas(folder, tmp_path, name):
    scheduler = getattr(diffusers, name)(
        beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.01
    )
    config = _with(folder, tmp_path, scheduler)
    assert (
        json.loads((tmp_path / "model/scheduler/scheduler_config.json").read_text())["_class_name"]
        == name
    )
    torch.testing.assert_close(load(config, "cpu").alphas_cumprod, scheduler.alphas_cumprod)


def _with_config(folder, tmp_path, config):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    (copy / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    return PriorConfig(model=str(copy))


@pytest.mark.parametrize(
    "name", ["LCMScheduler", "TCDScheduler", "DDPMScheduler", "CogVideoXDDIMScheduler"]
)
def test_what_a_config_leaves_open_has_its_own_class_s_defaults(folder, tmp_path, name):
    """They differ: LCM's betas are Stable Diffusion's, DDIM's are not."""
    prior = load(_with_config(folder, tmp_path, {"_class_name": name}), "cpu")
    expected = getattr(diffusers, name)().alphas_cumprod.float()
    torch.testing.assert_close(prior.alphas_cumprod, expected)


BETAS = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
         "beta_end": 0.012}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, r"\(no class\) has no beta schedule"),
        ({"_class_name": "UNet2DConditionModel"}, "has no beta schedule"),
        (BETAS | {"num_train_timesteps": 500}, "500 timesteps; models of 1000 are supported"),
        (BETAS | {"trained_betas": [0.01] * 3}, "3 timesteps"),
        (BETAS | {"beta_end": float("nan")}, "make no noise schedule"),
        (BETAS | {"beta_end": 2.0}, "make no noise schedule"),
        (BETAS | {"beta_schedule": "cosine"}, "cosine"),
        (BETAS | {"prediction_type": "flow_prediction"}, "'flow_prediction' is not supported"),
        (BETAS | {"use_flow_sigmas": True}, "has no beta schedule"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(folder, tmp_path, config, said):
    with pytest.raises(UserError, match=said):
        load(_with_config(folder, tmp_path, config), "cpu")


@pytest.mark.parametrize("config", [
    BETAS | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    BETAS | {"_class_name": "AnothersScheduler"},
    BETAS | {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True},
    BETAS | {"trained_betas": [0.01] * 1000},
])  # fmt: skip
def test_odd_but_sound_schedules_are_read(folder, tmp_path, config):
    alphas = load(_with_config(folder, tmp_path, config), "cpu").alphas_cumprod
    assert (alphas.diff() <= 0).all()
    assert 0 <= alphas[-1] < 0.01 < 0.98 < alphas[0]
