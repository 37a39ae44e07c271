"""The world as a volume, against the ray tracer: two ways to the same solids."""

import pytest
import torch

from gs_ssd.lab import world
from gs_ssd.lab.world.occupancy import grid, occupancy, occupied, surface_colors


@pytest.mark.parametrize("kind", world.kinds())
def test_points_before_the_first_hit_are_outside_and_just_behind_it_inside(kind):
    parts = world.sculpt(kind, "red", seed=5)
    views = world.orbit(
        torch.tensor([20.0, 110.0, 250.0]), torch.tensor([10.0, 35.0, -20.0]), 3.35, 34.0
    )
    seen = world.trace(world.stack([parts]), views.w2c, views.tan_half_fov, 48, 48, supersample=1)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    flat = (
        torch.stack([(x.flatten() + 0.5) / 24 - 1, (y.flatten() + 0.5) / 24 - 1], -1)
        * views.tan_half_fov[:, None]
    )
    rays = torch.cat([flat, torch.ones_like(flat[..., :1])], -1)
    depth, hit = seen.depth.flatten(1), seen.alpha.flatten(1) > 0.5

    def inside(along):
        camera = rays * along[..., None]
        points = (camera - views.w2c[:, None, :3, 3]) @ views.w2c[:, :3, :3]
        return occupied(parts, points.reshape(-1, 3)).view_as(hit)

    assert hit.float().mean() > 0.05
    early = inside(depth - 0.02)[hit].float().mean()
    assert early < (0.1 if kind in ("mug", "lamp") else 0.01)  # whose walls grow inwards
    assert (
        inside(depth + 0.006)[hit].float().mean() > 0.85
    )  # the rest grazes an edge or a thin wall


def test_a_mug_is_hollow_and_a_ball_is_not():
    middle = torch.tensor([[-0.25, 0.0, 0.1]])
    assert not occupied(world.sculpt("mug", "red"), middle).any()
    assert occupied(world.sculpt("ball", "red"), middle).all()


def test_the_filled_share_of_cells_is_the_volume():
    filled = occupancy(world.sculpt("ball", "red"), 16, 0.875).sum().item() * (2 * 0.875 / 16) ** 3
    assert filled == pytest.approx(
        4 / 3 * torch.pi / 3**1.5, rel=0.04
    )  # its box's corners lie at 1
    assert grid(4, 1.0)[0, 0, :, 0].tolist() == [
        -0.75,
        -0.25,
        0.25,
        0.75,
    ]  # x runs along the last axis


def test_colours_are_known_at_the_surface_and_are_its_own():
    color, known = surface_colors("snowman", "red", 24, 0.875)
    cell = grid(24, 0.875)
    below = known & (cell[..., 2] < -0.3)
    assert color[:, below].mean() > 0.5  # snow, some of it in the shade
    assert known.float().mean() < 0.5
    assert ((color[0] - color[1])[known] > 0.4).sum() > 10  # the scarf and the hat
