"""A radiance field as Gaussian splats: discs on its surface, then a short fit to its own
pictures."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gs_ssd.assets.nerf.config import ConversionConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import Traced, rays, render_large, trace
from gs_ssd.errors import UserError
from gs_ssd.maths import harmonics
from gs_ssd.render import renderer as splat_renderer
from gs_ssd.scene.camera import Cameras, around
from gs_ssd.scene.gaussians import Gaussians

CLOSENESS = 0.02  #: to 0 and 1, of the opacities and colours that discs begin with


@torch.no_grad()
def crossings(seen: Traced) -> Int[Tensor, " k"]:
    """For every ray that is stopped by half or more, the sample at which half of the light is
    gone."""
    passed = seen.weights.double().cumsum(0)
    first = torch.ones_like(seen.ray, dtype=torch.bool)
    first[1:] = seen.ray[1:] != seen.ray[:-1]
    start = torch.where(first, passed - seen.weights, -torch.inf).cummax(0).values
    beyond = passed - start >= 0.5
    before = torch.zeros_like(beyond)
    before[1:] = beyond[:-1] & ~first[1:]
    return (beyond & ~before).nonzero().squeeze(1)


def surface(
    field: Field, occupancy: Occupancy, config: ConversionConfig
) -> tuple[Float[Tensor, "k 3"], Float[Tensor, "k 3"], Float[Tensor, "k 3"]]:
    """Points (world), outward unit normals and colours of what cameras all around see, one a cube
    of the spacing.

    Raises:
        UserError: nothing is solid from anywhere.
    """
    found = []
    cameras = look_on(field, config.views, config.image_size).to(field.device)
    with torch.no_grad():
        for view in range(len(cameras)):
            origins, directions, _ = rays(cameras[view : view + 1])
            seen = trace(field, occupancy, origins, directions)
            found.append(seen.places[crossings(seen)])
    places = torch.cat(found)
    if len(places) == 0:
        raise UserError(
            "nothing of the field is solid: there is no surface to turn into splats; train it"
            " longer"
        )
    cube = (places * (2 / config.spacing)).long()
    number = (cube[:, 0] << 40) + (cube[:, 1] << 20) + cube[:, 2]
    kept, which = number.unique(return_inverse=True)
    chosen = torch.full((len(kept),), len(places)).scatter_reduce(
        0, which.cpu(), torch.arange(len(places)), "amin"
    )
    places = places[chosen.to(places.device)].requires_grad_()
    features = field.features(places)
    (slope,) = torch.autograd.grad(field.density(places, features).sum(), places)
    with torch.no_grad():
        colors = field.color(features)
    return (
        (2 * places.detach() - 1) * field.config.radius,
        -functional.normalize(slope, dim=1),
        colors,
    )


def look_on(field: Field, views: int, image_size: int) -> Cameras:
    """Cameras all around that see the whole box's inscribed ball."""
    fov, radius = math.radians(40), field.config.radius
    return around(views, radius / math.sin(fov / 2), fov, image_size)


def discs(
    points: Float[Tensor, "k 3"],
    normals: Float[Tensor, "k 3"],
    colors: Float[Tensor, "k 3"],
    spacing: float,
) -> Gaussians:
    """One flat Gaussian a point, its smallest axis, z, along the normal; `spacing` in world
    units."""
    count = len(points)
    # The turn of z onto n is (1 + n_z, z x n), normalised; about x where n is -z.
    quats = torch.stack(
        [1 + normals[:, 2], -normals[:, 1], normals[:, 0], torch.zeros_like(normals[:, 0])], dim=1
    )
    quats = torch.where((1 + normals[:, 2:3]) < 1e-6, quats.new_tensor([0.0, 1.0, 0.0, 0.0]), quats)
    scales = points.new_tensor([0.6, 0.6, 0.15]) * spacing
    held = colors.clamp(CLOSENESS, 1 - CLOSENESS)
    return Gaussians(
        means=points, log_scales=scales.log().expand(count, 3).clone(),
        quats_wxyz=functional.normalize(quats, dim=1),
        logit_opacities=torch.full_like(points[:, 0], math.log((1 - CLOSENESS) / CLOSENESS)),
        sh_dc=((held - 0.5) / harmonics.C0)[:, None], sh_rest=points.new_zeros(count, 0, 3),
    )  # fmt: skip


def convert(
    field: Field, occupancy: Occupancy, config: ConversionConfig, generator: torch.Generator
) -> Gaussians:
    """Splats that look as the field does.

    Raises:
        UserError: nothing is solid from anywhere.
    """
    spacing = config.spacing * field.config.radius
    splats = discs(*surface(field, occupancy, config), spacing).requires_grad_()
    if config.steps == 0:
        return splats.detach()
    cameras = look_on(field, config.views, config.image_size).to(field.device)
    black = torch.zeros(len(cameras), 3, device=field.device)
    rgb, alpha, _ = render_large(field, occupancy, cameras, black)
    rates = {"means": 0.1 * config.rate, "sh_rest": 0.0}
    adam = torch.optim.Adam(
        [
            {"params": [tensor], "lr": rates.get(name, config.rate)}
            for name, tensor in splats.parameters().items()
        ]
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.1 ** (1 / config.steps))
    for _ in range(config.steps):
        some = torch.randperm(len(cameras), generator=generator)[:4]
        background = torch.rand(len(some), 3, generator=generator).to(field.device)
        want = rgb[some] + background[:, :, None, None] * (1 - alpha[some])
        have = splat_renderer.render(splats, cameras[some], background)
        ((have.rgb - want).abs().mean() + (have.alpha - alpha[some]).abs().mean()).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        schedule.step()
    return splats.detach()
