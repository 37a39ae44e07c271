"""The first Gaussians: shapes, sizes, files, and what is refused."""

import math

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from pydantic import ValidationError
from scipy.spatial import cKDTree

from gs_ssd.errors import UserError
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def write_cloud(path, rgb=True, count=50):
    fields = [("x", "f4"), ("y", "f4"), ("z", "f4")]
    fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")] if rgb else []
    rows = np.zeros(count, dtype=fields)
    rng = np.random.default_rng(0)
    for axis in "xyz":
        rows[axis] = rng.normal(size=count) * 7 + 100
    if rgb:
        rows["red"] = 255
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    return path


def test_the_recipes_first_splat():
    splat = initialize.create(InitializeConfig(num_points=2000), generator())
    assert splat.opacities.min().item() == pytest.approx(0.1)
    assert splat.logit_opacities[0].item() == pytest.approx(-2.197, abs=1e-3)
    assert (splat.quats_wxyz == torch.tensor([1.0, 0, 0, 0])).all()
    assert splat.sh.shape == (2000, 1, 3)
    assert (splat.sh_dc == 0).all()
    distance, _ = cKDTree(splat.means.numpy()).query(splat.means.numpy(), k=4)
    expected = np.sqrt(np.maximum((distance[:, 1:] ** 2).mean(axis=1), 1e-7))
    np.testing.assert_allclose(
        splat.scales.numpy(), np.repeat(expected[:, None], 3, axis=1), rtol=1e-3
    )


@pytest.mark.parametrize("shape", ["sphere", "ball", "shell", "box"])
def test_shapes_are_centred_and_as_large_as_they_say(shape):
    config = InitializeConfig(shape=shape, num_points=4000, radius=0.4, box=(0.6, 1.2, 0.5))
    points = initialize.sample_points(config, generator())
    assert points.mean(dim=0).abs().max() < 0.03
    radius = points.norm(dim=-1)
    if shape == "box":
        torch.testing.assert_close(
            points.abs().amax(dim=0) * 2, torch.tensor([0.6, 1.2, 0.5]), atol=0.01, rtol=0
        )
        return
    assert radius.max() <= 0.4 + 1e-6
    inner_share = {"sphere": 0.5, "ball": 0.125, "shell": 0.0}[
        shape
    ]  # of the points within half the radius
    assert (radius < 0.2).float().mean().item() == pytest.approx(inner_share, abs=0.03)


def test_a_point_file_is_centred_scaled_and_keeps_its_colours_if_told(tmp_path):
    path = write_cloud(tmp_path / "cloud.ply")
    config = InitializeConfig(shape="points", file=str(path), keep_colors=True, radius=0.5)
    splat = initialize.create(config, generator())
    assert splat.means.norm(dim=-1).max().item() == pytest.approx(0.5, abs=1e-5)
    torch.testing.assert_close(
        splat.sh_dc[0, 0] * 0.28209479 + 0.5, torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )
    grey = initialize.create(InitializeConfig(shape="points", file=str(path)), generator())
    assert (grey.sh_dc == 0).all()


def test_higher_harmonics_start_at_zero():
    splat = initialize.create(InitializeConfig(num_points=10, sh_degree=2), generator())
    assert splat.sh_rest.shape == (10, 8, 3)
    assert splat.sh_degree == 2


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "nan", "too few"])
def test_bad_point_files_are_named(tmp_path, damage):
    path = tmp_path / "cloud.ply"
    if damage == "text":
        path.write_text("hello")
    elif damage == "truncated":
        write_cloud(path)
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "too few":
        write_cloud(path, count=3)
    elif damage == "nan":
        rows = np.full(9, math.nan, dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    with pytest.raises(UserError, match=r"cloud\.ply"):
        initialize.create(InitializeConfig(shape="points", file=str(path)), generator())


@pytest.mark.parametrize(
    "bad",
    [
        {"num_points": 1},
        {"opacity": 1.0},
        {"radius": -1.0},
        {"sh_degree": 4},
        {"scale": 0.0},
        {"shape": "points"},
    ],
)
def test_bad_numbers_are_refused_by_name(bad):
    key = "file" if "shape" in bad else next(iter(bad))
    with pytest.raises((UserError, ValidationError), match=key):
        InitializeConfig(**bad)


def test_a_first_size_is_the_distance_to_the_three_nearest_neighbours():
    points = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    points[7] = points[8]  # a double of itself
    apart = torch.cdist(points.double(), points.double()).fill_diagonal_(torch.inf)
    wanted = apart.topk(3, largest=False).values.square().mean(dim=1).float()
    torch.testing.assert_close(initialize.mean_squared_distance(points), wanted)
