"""The learned background: the direction alone decides, it is trained, saved, and never shown to
people."""

from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.assets.base import TrainingStep
from gs_ssd.errors import UserError
from gs_ssd.scene import camera

SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
SMALL = [
    "asset=nerf", "initialize.shape=sphere",
    "nerf.levels=3", "nerf.log2_entries=8", "nerf.base_resolution=4",
    "nerf.hidden=16", "nerf.steps=32", "nerf.cells=8", "nerf.levels_on=[]", "nerf.orientation=[]",
    "nerf.resolution=[[0, 12]]",
]  # fmt: skip


def made(*overrides):
    asset = choice.create(configs.load(SMOKE, [*SMALL, *overrides]), torch.device("cpu"))
    asset.initialize(torch.Generator().manual_seed(0))
    asset.begin_step(TrainingStep(0, 4, torch.Generator()))
    return asset


def pictures(asset, **kwargs):
    cameras = camera.ring(8, 1.4, 3.0, 0.7, 12)
    return asset.render(cameras, torch.full((8, 3), 0.25), **kwargs)


def corners(output):
    return output.rgb[:, :, 0, 0]


def test_training_views_show_it_and_people_do_not():
    asset = made("nerf.learned_background=1")
    seen = pictures(asset, generator=torch.Generator().manual_seed(1))
    assert float(seen.alpha[:, :, 0, 0].detach().max()) == 0
    assert float((corners(seen).detach() - 0.25).abs().min()) > 0.02
    assert torch.equal(corners(pictures(asset)), torch.full((8, 3), 0.25))


def test_its_share_of_the_views():
    asset = made("nerf.learned_background=0.5")
    rng, plain = torch.Generator().manual_seed(2), 0
    for _ in range(25):
        plain += int((corners(pictures(asset, generator=rng)) == 0.25).all(dim=1).sum())
    assert 70 < plain < 130  # of 200


def test_it_learns_a_colour_and_is_saved():
    asset = made("nerf.learned_background=1", "nerf.background_rate=0.01")
    want = torch.tensor([0.9, 0.2, 0.1])
    for index in range(100):
        seen = pictures(asset, generator=torch.Generator().manual_seed(index))
        (corners(seen) - want).square().sum().backward()
        for optimizer in asset.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    seen = pictures(asset, generator=torch.Generator().manual_seed(99))
    assert float((corners(seen) - want).abs().max()) < 0.05
    other = made("nerf.learned_background=1", "nerf.background_rate=0.01")
    other.load_state_dict(asset.state_dict())
    other.begin_step(TrainingStep(1, 4, torch.Generator()))
    again = pictures(other, generator=torch.Generator().manual_seed(99))
    assert torch.equal(seen.rgb, again.rgb)


def test_checkpoints_with_and_without_it_are_told_apart():
    with_it, without = made("nerf.learned_background=1"), made()
    with pytest.raises(UserError, match="holds no learned background"):
        with_it.load_state_dict(without.state_dict())
    with pytest.raises(UserError, match=r"nerf\.learned_background is 0 now"):
        without.load_state_dict(with_it.state_dict())


def test_it_is_a_function_of_the_direction_alone():
    asset = made("nerf.learned_background=1")
    away = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float32), dim=1)
    color = asset.surroundings.color(away)
    order = torch.randperm(50)
    assert torch.allclose(asset.surroundings.color(away[order]), color[order], atol=1e-6)
    assert float(color.min()) > 0
    assert float(color.max()) < 1
