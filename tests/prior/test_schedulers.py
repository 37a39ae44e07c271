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
