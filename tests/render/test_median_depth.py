"""The median depth against the rasterizer itself, and against brute force along the rays."""

import math

import pytest
import torch
from diff_gaussian_rasterization import render_views

from gs_ssd.maths import rotation
from gs_ssd.render.median_depth import median_depth
from gs_ssd.render.renderer import render
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
        """What the rasterizer composites of an indicator: the opacity of those it marks, behind all
        that is nearer."""
        return render_views(
            gaussians.means, gaussians.quats_wxyz, gaussians.scales, gaussians.opacities,
            colors=colors,
            w2c=camera.w2c, tan_half_fov=camera.tan_half_fov, width=45, height=37,
            background=torch.zeros(1, 3),
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
        ray = camera.w2c[0, :3, :3].T @ torch.tensor(
            [(column - 22.0) / focal, (row - 18.0) / focal, 1.0]
        )
        offset = (eye + steps[:, None] * ray - gaussians.means[chosen]).double()
        covariance = rotation.covariance(
            gaussians.scales[chosen][None], gaussians.quats_wxyz[chosen][None]
        )[0].double()
        distance = (offset * torch.linalg.solve(covariance, offset.T).T).sum(dim=1)
        # The low-pass lets a small one reach rays that pass it by; there the depth is kept within
        # what can be seen.
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
    rays = torch.stack(
        [(columns - 31.5) * slope, (rows - 31.5) * slope, torch.ones(64, 64)], dim=-1
    )
    world = (rays @ camera.w2c[0, :3, :3]) * depth[..., None] - camera.w2c[
        0, :3, :3
    ].T @ camera.w2c[0, :3, 3]
    assert ((world - sheet.means[0]) @ normal).abs().max() < 1e-3
    assert depth.max() - depth.min() > 0.5


@pytest.mark.parametrize(
    ("thickness", "median_within", "mean_beyond"), [(0.004, 0.003, 0.01), (0.035, 0.03, 0.02)]
)
def test_on_a_sphere(thickness, median_within, mean_beyond):
    """Flat splats: on the surface, where the mean depth is not.

    Round ones: outside by less than their sigma, .035."""
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(6000, 3, generator=generator), dim=1)
    sphere = Gaussians(
        means=normals,
        log_scales=torch.tensor([0.035, 0.035, thickness]).log().expand(6000, 3).clone(),
        quats_wxyz=torch.stack(
            [1 + normals[:, 2], -normals[:, 1], normals[:, 0], torch.zeros(6000)], dim=1
        ),
        logit_opacities=torch.full((6000,), math.log(9)),
        sh_dc=torch.zeros(6000, 1, 3),
        sh_rest=torch.zeros(6000, 0, 3),
    )
    values = (torch.tensor([value]) for value in (0.3, 1.2, 3.6, math.radians(36)))
    camera = Cameras.orbit(*values, 200, 200)
    depth, index = median_depth(sphere, camera)
    output = render(sphere, camera, torch.zeros(1, 3))
    mean = (output.depth / output.alpha.clamp_min(1e-6))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    slope = math.tan(math.radians(18)) / 100
    square = 1 + ((columns - 99.5) * slope) ** 2 + ((rows - 99.5) * slope) ** 2
    root = 3.6**2 - square * (
        3.6**2 - 1
    )  # of the quadratic for where a ray meets the unit sphere at distance 3.6
    inside = (root > 0.2) & (index >= 0)
    true = (3.6 - root.clamp_min(0).sqrt()) / square
    ours, theirs = ((found - true)[inside].abs().median().item() for found in (depth, mean))
    print(
        f"sigmas .035 .035 {thickness}: off the sphere by {ours:.4f} (median depth), {theirs:.4f}"
        " (mean depth)"
    )
    assert inside.sum() > 5000
    assert ours < median_within
    assert theirs > mean_beyond


def test_nothing_in_view():
    depth, index = median_depth(cloud(0), view())
    assert (depth == 0).all()
    assert (index == -1).all()
