"""A sentence's volume, how cameras see it, and a prior that lays that beside its latents."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.volume import (
    TextVolume,
    VolumeConfig,
    _shuffle,
    as_channels,
    look,
    open_volume,
    save,
    surface_points,
)
from gs_ssd.scene.camera import Cameras, at_angles

SMALL = VolumeConfig(text_width=32, width=16, channels=(16, 16, 16), resolution=32)


def cameras(azimuth_deg: list[float], elevation_deg: float = 20.0, size: int = 32) -> Cameras:
    azimuth = torch.tensor(azimuth_deg).deg2rad().tolist()
    polar = [torch.tensor(90 - elevation_deg).deg2rad().item()] * len(azimuth)
    return at_angles(azimuth, polar, radius=3.35, fov_y_rad=0.7, size=size)


def ball(config: VolumeConfig, center=(0.0, 0.0, 0.0), radius: float = 0.4) -> torch.Tensor:
    """Logits of a red ball."""
    line = (
        (torch.arange(config.resolution) + 0.5) / config.resolution * 2 - 1
    ) * config.half_extent
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    away = torch.stack([x, y, z]) - torch.tensor(center)[:, None, None, None]
    filled = 60 * (radius - away.norm(dim=0))
    return torch.stack([filled, torch.full_like(filled, 9.0), *[torch.full_like(filled, -9.0)] * 2])


@pytest.mark.parametrize("azimuth", [0.0, 40.0, 90.0, 200.0, 300.0])
def test_a_ball_appears_where_the_camera_projects_it(azimuth):
    config = VolumeConfig(map_size=64, samples=64)
    center = torch.tensor([0.3, -0.2, 0.25])
    seen = cameras([azimuth], 33.0, 64)
    picture = look(
        ball(config, center.tolist(), 0.4)[None], seen.w2c[None], seen.tan_half_fov[None], config
    )[0, 0]
    in_camera = seen.w2c[0, :3, :3] @ center + seen.w2c[0, :3, 3]
    expected = (in_camera[:2] / in_camera[2] / seen.tan_half_fov[0] + 1) / 2 * 64 - 0.5
    weight = picture[0] / picture[0].sum()
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    middle = torch.stack([(weight * columns).sum(), (weight * rows).sum()])
    torch.testing.assert_close(middle, expected, atol=0.3, rtol=0)
    angular = 0.4 / in_camera[2] / seen.tan_half_fov[0, 0] * 32  # pixels of its radius
    disc = torch.pi * angular.item() ** 2
    assert (
        disc < (picture[0] > 0.5).sum().item() < 1.25 * disc
    )  # a ray along the rim crosses many half filled cells


def test_pictures_of_volumes_are_premultiplied_and_in_front_hides_behind():
    config = VolumeConfig()
    front, back = ball(config, (0, 0.5, 0), 0.25), ball(config, (0, -0.5, 0), 0.25)
    blue = torch.cat([back[:1], back[2:3], back[3:], back[1:2]])
    both = torch.where((front[:1] > back[:1]), front, blue)
    seen = cameras([0.0, 180.0], 0.0)
    near_red, near_blue = look(both[None], seen.w2c[None], seen.tan_half_fov[None], config)[0][
        :, :, 16, 16
    ]
    assert near_red[0] > 0.98
    assert near_red[1] > 0.95
    assert near_red[3] < 0.03
    assert near_blue[3] > 0.95
    empty = torch.full_like(front, -20.0)
    assert look(empty[None], seen.w2c[None], seen.tan_half_fov[None], config).abs().max() < 1e-6


def test_half_filled_space_hides_as_the_law_of_absorption_says():
    """A uniform cube of occupancy o and side 2h: opacity along an axis is 1 - (1 - o)^cells,
    whatever the sampling."""
    for samples in (8, 64):
        config = VolumeConfig(resolution=8, samples=samples)
        logits = torch.full((1, 4, 8, 8, 8), torch.tensor(0.2 / 0.8).log().item())
        seen = cameras([0.0], 0.0)
        picture = look(logits, seen.w2c[None], seen.tan_half_fov[None], config)[0, 0, 0]
        middle = picture[15:17, 15:17].mean().item()
        assert middle == pytest.approx(1 - 0.8**8, abs=0.02 if samples == 64 else 0.06)


def test_channels_keep_every_pixel_and_zero_means_no_picture():
    picture = torch.rand(2, 4, 32, 32)
    channels = as_channels(picture, 16)
    assert channels.shape == (2, 16, 16, 16)
    assert torch.equal(channels[:, 0], 2 * picture[:, 0, ::2, ::2] - 1)
    assert torch.equal(channels[:, 3], 2 * picture[:, 0, 1::2, 1::2] - 1)
    nothing = as_channels(torch.zeros(1, 4, 32, 32), 16)
    assert torch.equal(nothing[:, :4], -torch.ones(1, 4, 16, 16))


def test_the_last_step_of_growth_fills_each_cell_with_its_own_eight():
    x = torch.arange(16.0).reshape(1, 16, 1, 1, 1)
    grown = _shuffle(x, 2)
    assert torch.equal(grown[0, 0].flatten(), torch.arange(8.0))
    assert torch.equal(grown[0, 1].flatten(), torch.arange(8.0, 16.0))
    along = torch.arange(2.0).reshape(1, 1, 1, 1, 2).expand(1, 27, 1, 1, 2)  # two cells along x
    grown = _shuffle(along, 3)
    assert torch.equal(grown[0, 0, 0, 0], torch.tensor([0.0, 0, 0, 1, 1, 1]))


@pytest.mark.parametrize("resolution", [16, 32, 48])
def test_a_volume_has_as_many_cells_as_its_config_says(resolution):
    config = dataclasses.replace(SMALL, resolution=resolution)
    with torch.no_grad():
        logits = TextVolume(config)(torch.randn(2, 5, 32))
    assert logits.shape == (2, 4, *[resolution] * 3)


def test_surface_points_lie_on_the_surface_and_wear_its_colour():
    config = VolumeConfig()
    points, rgb = surface_points(
        ball(config, (0.2, 0.1, -0.1), 0.4), config.half_extent, 3000, torch.Generator()
    )
    away = (points - torch.tensor([0.2, 0.1, -0.1])).norm(dim=1)
    assert points.shape == rgb.shape == (3000, 3)
    assert (
        away - 0.4
    ).abs().max() < 3 * config.half_extent / config.resolution  # three cells of half the size
    assert away.mean() == pytest.approx(0.4, abs=0.03)
    torch.testing.assert_close(rgb.mean(0), torch.tensor([1.0, 0.0, 0.0]), atol=0.01, rtol=0)
    none, _ = surface_points(
        torch.full((4, 32, 32, 32), -5.0), config.half_extent, 10, torch.Generator()
    )
    assert none.shape == (0, 3)


@pytest.fixture(scope="module")
def folder(tiny_stable_diffusion, tmp_path_factory):
    """A random Stable Diffusion with a random volume beside it."""
    path = tmp_path_factory.mktemp("models") / "with_volume"
    shutil.copytree(tiny_stable_diffusion, path)
    torch.manual_seed(1)
    volume = TextVolume(SMALL)
    outputs = load_file(next((path / "unet").glob("*.safetensors")))["conv_in.weight"].shape[0]
    save(volume, torch.randn(outputs, SMALL.map_channels, 3, 3), path / "volume")
    (path / "gs_ssd.json").write_text(json.dumps({"volume": {"folder": "volume"}}))
    return path


@pytest.fixture(scope="module")
def prior(folder):
    return load(PriorConfig(model=str(folder)), "cpu")


def test_without_cameras_it_is_the_plain_pipeline(folder, prior, tiny_stable_diffusion):
    plain = load(PriorConfig(model=str(tiny_stable_diffusion)), "cpu")
    assert prior.uses_cameras
    assert not plain.uses_cameras
    x, t, text = (
        torch.randn(3, 4, 16, 16),
        torch.tensor([10, 500, 900]),
        plain.embed(["a red mug", "a mug", ""]),
    )
    expected = plain.predict_noise(x, t, Condition(text))
    torch.testing.assert_close(
        prior.predict_noise(x, t, Condition(text)), expected, atol=1e-5, rtol=1e-5
    )


def test_cameras_matter_but_to_the_empty_sentence(prior):
    x, t = torch.randn(1, 4, 16, 16).expand(3, -1, -1, -1), torch.full((3,), 500)
    text = prior.embed(["a red mug", "a red mug", ""])
    told = prior.predict_noise(x, t, Condition(text, cameras([0.0, 120.0, 120.0])))
    blind = prior.predict_noise(x, t, Condition(text))
    assert (told[0] - told[1]).abs().max() > 1e-3
    assert (told[0] - blind[0]).abs().max() > 1e-3
    torch.testing.assert_close(told[2], blind[2])


def test_rows_are_their_own_whatever_stands_beside_them(prior):
    """Sentences in any order, each with its own camera; the volume is made once a sentence."""
    text = prior.embed(["a red mug", "a mug", "a red mug", "", "a mug"])
    seen = cameras([0.0, 50.0, 100.0, 150.0, 200.0])
    together = prior.maps(Condition(text, seen))
    for row in range(5):
        alone = prior.maps(Condition(text[row : row + 1], seen[row : row + 1]))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    made = []
    prior.volume.register_forward_hook(lambda *_: made.append(1))
    prior.maps(Condition(prior.embed(["a view", "a view"]), seen[:2]))
    prior.maps(Condition(prior.embed(["a view"]), seen[:1]))
    assert len(made) == 1


def test_the_saved_volume_is_the_volume(tmp_path):
    volume, weight = TextVolume(SMALL), torch.randn(8, SMALL.map_channels, 3, 3)
    save(volume, weight, tmp_path / "volume")
    again, read = open_volume(tmp_path / "volume")
    text = torch.randn(2, 5, 32)
    torch.testing.assert_close(again(text), volume(text), atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(read, weight, atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("part", ["../elsewhere", "/tmp", "", "volume/deep", 7])
def test_a_part_outside_the_folder_is_refused(folder, tmp_path, part):
    path = tmp_path / "model"
    shutil.copytree(folder, path)
    (path / "gs_ssd.json").write_text(json.dumps({"volume": {"folder": part}}))
    with pytest.raises(UserError, match="folder"):
        load(PriorConfig(model=str(path)), "cpu")


@pytest.mark.parametrize("damage", ["missing", "truncated", "lacking", "no sizes"])
def test_a_damaged_part_is_one_sentence(folder, tmp_path, damage):
    path = tmp_path / "model"
    shutil.copytree(folder, path)
    weights = path / "volume" / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no sizes":
        (path / "volume" / "config.json").unlink()
    else:
        tensors = load_file(weights)
        tensors.pop("head.weight")
        save_file(tensors, weights)
    with pytest.raises(UserError, match="volume"):
        load(PriorConfig(model=str(path)), "cpu")
