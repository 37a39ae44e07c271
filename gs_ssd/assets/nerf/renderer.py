"""A field and cameras in, pictures out: rays, samples in occupied cells, compositing on a plain
background."""

import dataclasses
import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.errors import UserError
from gs_ssd.render.output import RenderOutput
from gs_ssd.scene.camera import Cameras

RAYS = 1 << 14  #: at a time, of pictures without gradients

Behind = Callable[[Float[Tensor, "r 3"], Float[Tensor, "r 3"]], Float[Tensor, "r 3"]]


@dataclasses.dataclass(frozen=True)
class Traced:
    """What R rays meet: `rgb` [R,3] (nothing behind it), `opacity` [R], `depth` [R] along the ray,
    not divided by the opacity.

    Samples that carry light: `places` [S,3] are leaves in 0..1 of the graph of `density` [S], so
    that its slope can be taken; `weights` [S]; `ray` [S] says whose they are.
    """

    rgb: Float[Tensor, "r 3"]
    opacity: Float[Tensor, " r"]
    depth: Float[Tensor, " r"]
    places: Float[Tensor, "s 3"]
    density: Float[Tensor, " s"]
    weights: Float[Tensor, " s"]
    ray: Tensor


@dataclasses.dataclass(frozen=True)
class NerfRenderOutput(RenderOutput):
    """V renderings, and what the orientation loss asks for: what their rays met, and where those
    go, `directions` [R,3]."""

    traced: Traced
    directions: Float[Tensor, "r 3"]


def step_length(field: Field) -> float:
    """World units: the box's diagonal over the number of steps."""
    return 2 * math.sqrt(3) * field.config.radius / field.config.steps


def rays(
    cameras: Cameras,
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"], Float[Tensor, " r"]]:
    """Origins, unit directions, and z a unit of distance, of the pixels' middles: view by view, row
    by row."""
    height, width, like = cameras.height, cameras.width, cameras.w2c
    y, x = torch.meshgrid(_middles(height, like), _middles(width, like), indexing="ij")
    ahead, length = _ahead(x[None], y[None], cameras.tan_half_fov[:, None, None, :])
    directions = torch.einsum("vhwc,vcd->vhwd", ahead, cameras.w2c[:, :3, :3])
    origins = cameras.positions[:, None, None, :].expand_as(directions)
    return origins.reshape(-1, 3), directions.reshape(-1, 3), length.reciprocal().reshape(-1)


def rays_through(
    cameras: Cameras, pixels: Int[Tensor, " k"]
) -> tuple[Float[Tensor, "k 3"], Float[Tensor, "k 3"]]:
    """Origins and unit directions as `rays` gives them, of these pixels alone: numbers into all
    views' pixels, view by view, row by row."""
    height, width, like = cameras.height, cameras.width, cameras.w2c
    view, row, column = pixels // (width * height), pixels // width % height, pixels % width
    x, y = _middles(width, like)[column], _middles(height, like)[row]
    ahead, _ = _ahead(x, y, cameras.tan_half_fov[view])
    directions = torch.einsum("kc,kcd->kd", ahead, cameras.w2c[view, :3, :3])
    return cameras.positions[view], directions


def _middles(count: int, like: Tensor) -> Float[Tensor, " n"]:
    """Of so many pixels, -1 to 1 from edge to edge of the picture."""
    return (torch.arange(count).to(like) + 0.5) / count * 2 - 1


def _ahead(
    x: Float[Tensor, "*#r"], y: Float[Tensor, "*#r"], tan_half_fov: Float[Tensor, "*#r 2"]
) -> tuple[Float[Tensor, "*#r 3"], Float[Tensor, "*#r 1"]]:
    """Unit directions in the camera's axes, and how far along each z is 1."""
    slopes = torch.stack([x, y], dim=-1) * tan_half_fov
    ahead = torch.cat([slopes, torch.ones_like(slopes[..., :1])], dim=-1)
    length = ahead.norm(dim=-1, keepdim=True)
    return ahead / length, length


def render(
    field: Field,
    occupancy: Occupancy,
    cameras: Cameras,
    background: Float[Tensor, "v 3"],
    *,
    generator: torch.Generator | None = None,
    slopes: bool = False,
    behind: Behind | None = None,
) -> NerfRenderOutput:
    """All views.

    Args:
        background: one colour a view, 0..1.
        generator: shifts each ray's samples within a step (stratified); without it they lie in the
            middle.
        behind: makes of the rays' directions and plain colours, [R,3] both, what is behind the
            object; `None`: the plain colours.
        slopes: `places` require gradients, for the normals of regularizers.

    Raises:
        UserError: the density is not finite.
    """
    origins, directions, z = rays(cameras)
    seen = trace(field, occupancy, origins, directions, generator=generator, slopes=slopes)
    far = background.repeat_interleave(cameras.width * cameras.height, dim=0)
    far = far if behind is None else behind(directions, far)
    rgb = seen.rgb + far * (1 - seen.opacity[:, None])
    size = (len(cameras), cameras.height, cameras.width)
    return NerfRenderOutput(
        rgb.view(*size, 3).permute(0, 3, 1, 2), seen.opacity.view(size).unsqueeze(1),
        (seen.depth * z).view(size).unsqueeze(1), seen, directions,
    )  # fmt: skip


def trace(
    field: Field,
    occupancy: Occupancy,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    *,
    generator: torch.Generator | None = None,
    slopes: bool = False,
) -> Traced:
    """Rays of any kind, world units; directions of unit length. The other arguments are `render`'s.

    Raises:
        UserError: the density is not finite.
    """
    library, config = field.library, field.config
    jitter = (
        torch.full((len(origins),), 0.5)
        if generator is None
        else torch.rand(len(origins), generator=generator)
    )
    box = library.Box((-config.radius,) * 3, (config.radius,) * 3)
    step = step_length(field)
    samples = library.march(origins, directions, occupancy.occupied, box, step, jitter.to(origins))
    with torch.no_grad():
        dense = field.density(samples.positions)
        if not bool(dense.isfinite().all()):
            raise UserError(
                "the density of the field is not finite; lower nerf.table_rate or nerf.network_rate"
                " (the last checkpoint is intact)"
            )
        least = min(config.least_alpha, float(occupancy.values.mean()))
        samples = samples.keep(library.visible(samples, dense, step, least, config.least_light))
    places = samples.positions.detach().requires_grad_(slopes and torch.is_grad_enabled())
    features = field.features(places)
    density, color = field.density_and_color(places, features)
    seen = library.composite(samples, density, color, step)
    return Traced(seen.rgb, seen.opacity, seen.depth, places, density, seen.weights, samples.ray)


@torch.no_grad()
def render_large(
    field: Field, occupancy: Occupancy, cameras: Cameras, background: Float[Tensor, "v 3"]
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb, alpha and depth as `render` gives them, `RAYS` rays at a time: pictures of any size in
    little memory."""
    parts = [
        _picture(field, occupancy, cameras[i : i + 1], background[i]) for i in range(len(cameras))
    ]
    rgb, alpha, depth = (torch.stack(part) for part in zip(*parts, strict=True))
    return rgb, alpha, depth


def _picture(
    field: Field, occupancy: Occupancy, camera: Cameras, background: Float[Tensor, " 3"]
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"], Float[Tensor, "1 h w"]]:
    """rgb, alpha and depth of one view."""
    size, found = (camera.height, camera.width), []
    for origins, directions, z in zip(*(part.split(RAYS) for part in rays(camera)), strict=True):
        seen = trace(field, occupancy, origins, directions)
        rgb = seen.rgb + background * (1 - seen.opacity[:, None])
        found.append((rgb, seen.opacity, seen.depth * z))
    rgb, alpha, depth = (torch.cat(part) for part in zip(*found, strict=True))
    return rgb.view(*size, 3).permute(2, 0, 1), alpha.view(1, *size), depth.view(1, *size)
