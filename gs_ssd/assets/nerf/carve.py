"""What of a radiance field is hidden: the places that no camera around it sees.

No level of a density is a surface all over. Fog of half the density stops light as well where
there is twice as much of it, and level sets of it are full of tunnels and caves that no picture
shows. Space is carved away (Kutulakos and Seitz, A Theory of Shape by Space Carving, 2000) up to
where half of each ray's light is gone; what is left is solid, whatever its density.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import rays, trace
from gs_ssd.assets.nerf.to_splats import crossings, look_on
from gs_ssd.scene.camera import Cameras

VIEWS = 32  #: cameras, all around
SIZE = 128  #: pixels a side of what they see
FAR = 1e6  #: where light is not stopped, world units


@torch.no_grad()
def cameras_and_ends(
    field: Field, occupancy: Occupancy
) -> tuple[Cameras, Float[Tensor, "v h w"], Float[Tensor, " k"]]:
    """Cameras all around; how far each pixel's light comes before half of it is gone, world units,
    `FAR` where more of it gets through; and the densities there."""
    cameras = look_on(field, VIEWS, SIZE).to(field.device)
    ends = torch.full((VIEWS, SIZE * SIZE), FAR, device=field.device)
    densities = []
    for view in range(VIEWS):
        origins, directions, _ = rays(cameras[view : view + 1])
        seen = trace(field, occupancy, origins, directions)
        samples = crossings(seen)
        ray, places = seen.ray[samples], (2 * seen.places[samples] - 1) * field.config.radius
        ends[view, ray] = (places - origins[ray]).norm(dim=1)
        densities.append(seen.density[samples])
    return cameras, ends.view(VIEWS, SIZE, SIZE), torch.cat(densities)


def depth_behind(
    places: Float[Tensor, "n 3"], cameras: Cameras, ends: Float[Tensor, "v h w"]
) -> Float[Tensor, " n"]:
    """How far places lie behind what the camera that sees most of them sees, world units: positive
    where they are hidden from all."""
    least = torch.full_like(places[:, 0], torch.inf)
    for w2c, tan, end in zip(cameras.w2c, cameras.tan_half_fov, ends, strict=True):
        seen = places @ w2c[:3, :3].T + w2c[:3, 3]
        at = seen[:, :2] / seen[:, 2:] / tan
        # Nearest: no distance lies between an outline and what is behind it.
        found = functional.grid_sample(
            end[None, None], at[None, None], mode="nearest", align_corners=False
        )[0, 0, 0]
        least = torch.minimum(least, seen.norm(dim=1) - found)
    return least
