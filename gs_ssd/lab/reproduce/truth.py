"""True pictures of the bundled world, at the cameras of the benchmark."""

import torch
from jaxtyping import Float
from torch import Tensor


def true_views(
    kind: str, color: str, views: int, size: int, elevation_deg: float = 15.0
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """Renderings of the kind's mean shape on white, evenly around it from the front on; colours and alpha."""
    from gs_ssd.lab.world.kinds import sculpt
    from gs_ssd.lab.world.tracer import stack, trace
    from gs_ssd.lab.world.views import orbit

    azimuth = torch.arange(views) * (360.0 / views)
    cameras = orbit(azimuth, torch.full((views,), elevation_deg), 3.35, 40.0)
    picture = trace(stack([sculpt(kind, color)]), cameras.w2c, cameras.tan_half_fov, size, size, supersample=4)
    return picture.rgb, picture.alpha
