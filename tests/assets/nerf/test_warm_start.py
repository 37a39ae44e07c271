"""A field that begins with a shape: an earlier splat's place, size and colours."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.assets.nerf import from_splats
from gs_ssd.errors import UserError
from gs_ssd.export import formats
from gs_ssd.export.splats import from_gaussians
from gs_ssd.render import renderer as splat_renderer
from gs_ssd.scene import camera, initialize
from gs_ssd.scene.initialize import InitializeConfig

SMALL = [
    "asset=nerf", "nerf.levels=6", "nerf.log2_entries=10", "nerf.base_resolution=6",
    "nerf.level_scale=1.5", "nerf.hidden=16", "nerf.steps=64", "nerf.cells=16", "nerf.levels_on=[]",
    "nerf.warm_start.steps=120", "nerf.warm_start.image_size=24", "nerf.warm_start.views=12",
]  # fmt: skip


def blob_at(tmp_path, x):
    """A red box, off the middle."""
    config = InitializeConfig(
        shape="box", box=(0.5, 0.3, 0.6), num_points=600, scale=0.06, opacity=0.9,
        color=(0.9, 0.1, 0.1),
    )  # fmt: skip
    splats = initialize.create(config, torch.Generator().manual_seed(0))
    splats = dataclasses.replace(splats, means=splats.means + torch.tensor([x, 0.0, 0.1]))
    path = tmp_path / "box.ply"
    formats.write_splats(path, from_gaussians(splats))
    return splats, path


def begun(path):
    start = ["initialize.shape=splat", f"initialize.file={path}"]
    asset = choice.create(configs.load(None, [*SMALL, *start]), torch.device("cpu"))
    asset.initialize(torch.Generator().manual_seed(0))
    return asset


def test_the_field_looks_as_the_splat_does(tmp_path):
    splats, path = blob_at(tmp_path, 0.25)
    asset = begun(path)
    cameras, black = camera.ring(5, 1.3, 3.0, 0.7, 32), torch.zeros(5, 3)
    with torch.no_grad():
        want, have = splat_renderer.render(splats, cameras, black), asset.render(cameras, black)
    solid, seen = want.alpha > 0.5, have.alpha > 0.5
    assert float((solid & seen).sum() / (solid | seen).sum()) > 0.8
    middle = (want.alpha > 0.9).expand_as(have.rgb)
    assert float((want.rgb - have.rgb).abs()[middle].mean()) < 0.1
    (optimizer,) = asset.optimizers
    assert not optimizer.state  # its own AdamW has not moved yet


def test_what_is_fitted_to_is_no_fatter_than_the_splat(tmp_path):
    """A rasterizer blurs by half a pixel; few pixels must not make the object larger."""
    splats, _ = blob_at(tmp_path, 0.0)
    few, fine = (camera.ring(5, 1.3, 3.0, 0.7, size) for size in (24, 384))
    with torch.no_grad():
        true = splat_renderer.render(splats, fine, torch.zeros(5, 3))
        plain = splat_renderer.render(splats, few, torch.zeros(5, 3))
    rgb, alpha = from_splats.pictures(splats, few)
    assert float(plain.alpha.mean() / true.alpha.mean()) > 1.2
    for found, wanted in ((rgb, true.rgb), (alpha, true.alpha)):
        averaged = functional.avg_pool2d(wanted, 16)
        assert float((found - averaged).abs().mean() / averaged.mean()) < 0.03


def test_a_shape_outside_of_the_box_is_refused(tmp_path):
    _, path = blob_at(tmp_path, 60.0)
    with pytest.raises(UserError, match=r"nothing of the shape can be seen; .*nerf\.radius=1"):
        begun(path)
