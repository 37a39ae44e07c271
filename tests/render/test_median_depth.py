"""The median depth against the rasterizer itself, and against brute force along the rays."""

import math

import pytest
import torch
from diff_gaussian_rasterization import render_views

from gs_ssd.maths import rotation
from gs_ssd.render.median_depth import median_depth
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians


def view(width: int = 45, height: int = 37) -> Cameras:
    """From somewhere above, of no round size."""
    values = (torch.tensor([value]) for value in (0.7, 1.1, 3.0, 0.8))
    return Cameras.orbit(*values, width, height)


def cloud(count: int, *, largest: float = 0.25) -> Gaussians:
    generator = torch.Generator().manual_seed(3)
    return Gaussians(
        means=0.5 * torch.randn(count, 3, generator=generator),
        log_scales=(0.02 + (largest - 0.02) * torch.rand(count, 3, generator=generator)).log(),
        quats_wxyz=torch.randn(count, 4, generator=generator),
        logit_opacities=2 * torch.randn(count, generator=generator),
        sh_dc=torch.zeros(count, 1, 3),
        sh_rest=torch.zeros(count, 0, 3),
    )


@pytest.mark.parametrize("count", [60, 900])  # 900: several portions of a tile's list
def test_half_of_the_light_is_stopped_up_to_the_chosen_gaussian_and_not_before(count):
    gaussians, camera = cloud(count), view()
    depth, index = median_depth(gaussians, camera)
    middles = gaussians.means @ camera.w2c[0, 2, :3] + camera.w2c[0, 2, 3]

    def stopped(colors: torch.Tensor) -> torch.Tensor:
        """What the rasterizer composites of an indicator: the opacity of those it marks, behind all that is nearer."""
        return render_views(
            gaussians.means, gaussians.quats_wxyz, gaussians.scales, gaussians.opacities, colors=colors,
            w2c=camera.w2c, tan_half_fov=camera.tan_half_fov, width=45, height=37, background=torch.zeros(1, 3),
        ).rgb[0]  # fmt: skip

    for chosen in index.unique().tolist():
        pixels = index == chosen
        if chosen < 0:
            assert stopped(torch.ones(count, 3))[0][pixels].max() < 0.5 + 1e-5
            assert (depth[pixels] == 0).all()
            continue
        nearer, upto = middles < middles[chosen], middles <= middles[chosen]
        before, after, _ = stopped(torch.stack([nearer, upto, upto], dim=1).float())
        assert before[pixels].max() < 0.5 + 1e-5
        assert after[pixels].min() > 0.5 - 1e-5
    assert (index >= 0).float().mean() > 0.1
    assert len(index.unique()) > 5


def test_depth_is_where_the_ray_is_nearest_to_the_middle():
    gaussians, camera = cloud(80), view()
    depth, index = median_depth(gaussians, camera)
    eye = -camera.w2c[0, :3, :3].T @ camera.w2c[0, :3, 3]
    steps = torch.linspace(0.2, 6.0, 20_001, dtype=torch.float64)
    focal = 0.5 * 37 / math.tan(0.4)
    checked = 0
    for row, column in (index >= 0).nonzero()[::7].tolist():
        chosen = index[row, column]
        ray = camera.w2c[0, :3, :3].T @ torch.tensor([(column - 22.0) / focal, (row - 18.0) / focal, 1.0])
        offset = (eye + steps[:, None] * ray - gaussians.means[chosen]).double()
        covariance = rotation.covariance(gaussians.scales[chosen][None], gaussians.quats_wxyz[chosen][None])[0].double()
        distance = (offset * torch.linalg.solve(covariance, offset.T).T).sum(dim=1)
        # The low-pass lets a small one reach rays that pass it by; there the depth is kept within what can be seen.
        if distance.min() < 2 * math.log(255 * gaussians.opacities[chosen]) - 0.5:
            checked += 1
            assert depth[row, column] == pytest.approx(steps[distance.argmin()].item(), abs=2e-3)
        sigma = (camera.w2c[0, 2, :3].double() @ covariance @ camera.w2c[0, 2, :3].double()).sqrt()
        middle = gaussians.means[chosen] @ camera.w2c[0, 2, :3] + camera.w2c[0, 2, 3]
        assert abs(depth[row, column] - middle) < 3.34 * sigma
    assert checked > 40


def test_a_slanted_sheet_is_a_plane():
    """One flat, wide Gaussian: the depth is that of its plane, not of its middle."""
    camera = view(64, 64)
    normal = torch.tensor([0.3, 0.8, 0.5])
    normal /= normal.norm()
    quat = torch.tensor([[1 + normal[2], -normal[1], normal[0], 0.0]])  # turns z to the normal
    sheet = Gaussians(
        means=torch.tensor([[0.1, 0.0, 0.05]]),
        log_scales=torch.tensor([[2.0, 2.0, 1e-4]]).log(),
        quats_wxyz=quat,
        logit_opacities=torch.tensor([6.0]),
        sh_dc=torch.zeros(1, 1, 3),
        sh_rest=torch.zeros(1, 0, 3),
    )
    depth, index = median_depth(sheet, camera)
    assert (index == 0).all()
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    slope = math.tan(0.4) / 32
    rays = torch.stack([(columns - 31.5) * slope, (rows - 31.5) * slope, torch.ones(64, 64)], dim=-1)
    world = (rays @ camera.w2c[0, :3, :3]) * depth[..., None] - camera.w2c[0, :3, :3].T @ camera.w2c[0, :3, 3]
    assert ((world - sheet.means[0]) @ normal).abs().max() < 1e-3
    assert depth.max() - depth.min() > 0.5


def test_nothing_in_view():
    depth, index = median_depth(cloud(0), view())
    assert (depth == 0).all()
    assert (index == -1).all()
