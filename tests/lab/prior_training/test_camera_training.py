"""The volume's and the camera's training in small: what it never sees, and that a stopped run goes
on where it was."""

import dataclasses
import math

import pytest
import torch

from gs_ssd.lab import world
from gs_ssd.lab.prior_training.camera_training import PRESETS, CameraTrainer
from gs_ssd.lab.prior_training.held_out import COUNT, held_out
from gs_ssd.lab.prior_training.publish_camera import write_parts
from gs_ssd.lab.prior_training.volume_training import (
    Targets,
    VolumeTrainer,
    VolumeTraining,
    embedder_of,
    local_contrast,
    take_over,
)
from gs_ssd.prior import BUNDLED
from gs_ssd.prior.volume import TextVolume, VolumeConfig

SMALL = VolumeConfig(width=16, channels=(16, 16, 16), resolution=32)


def test_the_pairs_kept_out_are_twenty_of_different_kinds():
    assert len(held_out()) == COUNT == len({kind for kind, _ in held_out()})
    assert held_out() == held_out()
    assert all(kind in world.kinds() and color in world.colors() for kind, color in held_out())


@pytest.fixture(scope="module")
def embed():
    return embedder_of(BUNDLED)


def test_a_stopped_volume_goes_on_where_it_was_and_learns(tmp_path, embed, monkeypatch):
    size, kinds, colors = 32, len(world.kinds()), len(world.colors())
    filled = torch.zeros(kinds, size, size, size, dtype=torch.uint8)
    filled[:, 8:24, 8:24, 8:24] = 255
    color = torch.full((kinds, colors, 3, size, size, size), 200, dtype=torch.uint8)
    known = torch.ones(kinds, colors, size, size, size, dtype=torch.uint8)
    targets = Targets(filled, torch.zeros_like(filled), color, known, torch.zeros_like(known))
    monkeypatch.setattr(VolumeTrainer, "targets", lambda _: targets)
    config = VolumeTraining(model=SMALL, batch=2, steps=(6, 2), warmup=1, bfloat16=False)
    assert not VolumeTrainer(tmp_path, config, embed).fit(minutes=0.0, report=lambda _: None)
    run = VolumeTrainer(tmp_path, config, embed)
    losses = [run._train_step(targets)["shape"] for _ in range(6)]
    assert losses[-1] < losses[0]
    run._save()
    again = VolumeTrainer(tmp_path, config, embed)
    assert again.step == 6
    assert all(torch.equal(x, again.average[name]) for name, x in run.average.items())
    assert not {pair for pair in again.pairs if pair in held_out()}
    assert again.fit(minutes=math.inf, report=lambda _: None)
    assert again.step == 8


def test_eyes_have_contrast_and_plain_walls_none():
    color = torch.full((1, 3, 20, 20, 20), 0.8)
    color[:, :, 9:11, 9:11, 9:11] = 0.1
    known = torch.ones(1, 20, 20, 20)
    known[:, :5] = 0
    contrast = local_contrast(color, known)
    assert contrast[0, 9:11, 9:11, 9:11].min() > 0.6
    assert contrast[0, 5:7].max() < 1e-6
    assert contrast[0, :5].max() == 0  # nobody knows a colour there
    beside = contrast[0, 10, 10, 7]
    assert 0 < beside < 0.1


def test_a_finer_volume_takes_over_all_layers_but_the_last():
    coarse = TextVolume(SMALL)
    fine = TextVolume(dataclasses.replace(SMALL, resolution=48))
    head = fine.head.weight.clone()
    take_over(fine, coarse)
    assert torch.equal(fine.head.weight, head)
    mine = fine.state_dict()
    same = [name for name, x in coarse.state_dict().items() if torch.equal(mine[name], x)]
    assert set(mine) - set(same) == {"head.weight", "head.bias"}


def test_a_stopped_camera_training_goes_on_and_is_written_as_a_pipeline(tmp_path):
    from diffusers import UNet2DConditionModel

    config, volume = PRESETS["smoke"], TextVolume(SMALL).eval()
    run = CameraTrainer(tmp_path, config, BUNDLED, volume)
    pictures, colorless, views = run.pictures()
    assert not set(pictures.pairs()) & held_out()
    assert views.shape == (len(pictures), 4, SMALL.map_size, SMALL.map_size)
    assert len(colorless) == len(pictures)
    run._train_step(pictures, colorless, views)
    run.save()
    again = CameraTrainer(tmp_path, config, BUNDLED, volume)
    assert again.step == 1
    assert again.fit(minutes=math.inf, report=lambda _: None)
    assert again.step == config.steps
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "unet" / "config.json").write_text(
        (BUNDLED / "unet" / "config.json").read_text()
    )
    write_parts(tmp_path / "model", again.average, volume)
    assert (
        UNet2DConditionModel.from_pretrained(tmp_path / "model" / "unet").config.in_channels == 12
    )
