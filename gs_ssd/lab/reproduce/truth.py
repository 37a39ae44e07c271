"""True pictures of the bundled world, at the cameras of the benchmark."""

import math

from jaxtyping import Float
from torch import Tensor

from gs_ssd.scene.camera import Cameras, ring

ELEVATION_DEG, RADIUS, FOV_Y_DEG = 15.0, 3.35, 40.0


def cameras_around(views: int, size: int) -> Cameras:
    """The cameras of `true_views`, on the CPU: evenly around, the first at the front."""
    return ring(views, math.radians(90 - ELEVATION_DEG), RADIUS, math.radians(FOV_Y_DEG), size)


def true_views(
    kind: str, color: str, views: int, size: int, elevation_deg: float = ELEVATION_DEG
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """Renderings of the kind's mean shape on white, evenly around it from the front on; colours and
    alpha."""
    from gs_ssd.lab.world.kinds import sculpt
    from gs_ssd.lab.world.tracer import stack, trace

    cameras = ring(views, math.radians(90 - elevation_deg), RADIUS, math.radians(FOV_Y_DEG), size)
    picture = trace(
        stack([sculpt(kind, color)]), cameras.w2c, cameras.tan_half_fov, size, size, supersample=4
    )
    return picture.rgb, picture.alpha
