"""The procedural objects that the bundled prior and the judge are trained on.

`render` is ground truth at any resolution; `photograph` makes random training pictures.
"""

from torch import Tensor

from gs_ssd.lab.world.colors import COLORS, Rgb, colors
from gs_ssd.lab.world.kinds import kinds, sculpt
from gs_ssd.lab.world.photographs import Photographs, Studio, draw_backgrounds, photograph
from gs_ssd.lab.world.tracer import Light, Picture, stack, trace
from gs_ssd.lab.world.views import CameraLaw, Views, draw_views, orbit, turntable

__all__ = [
    "COLORS",
    "CameraLaw",
    "Light",
    "Photographs",
    "Picture",
    "Rgb",
    "Studio",
    "Views",
    "colors",
    "draw_backgrounds",
    "draw_views",
    "kinds",
    "orbit",
    "photograph",
    "render",
    "sculpt",
    "stack",
    "trace",
    "turntable",
]


def render(
    kind: str,
    color: str | Rgb,
    w2c: Tensor,
    tan_half_fov: Tensor,
    width: int,
    height: int,
    *,
    seed: int | None = None,
    background: Tensor | None = None,
    light: Light | None = None,
    supersample: int = 3,
) -> Picture:
    """One object seen by V cameras: `rgb [V,3,H,W]`, `alpha [V,1,H,W]`, `depth [V,1,H,W]` (alpha
    times z).

    Args:
        kind: one of `kinds()`.
        color: one of `colors()`, or RGB in 0..1.
        w2c: `[V,4,4]` OpenCV world-to-camera matrices; the pictures are made on their device.
        tan_half_fov: `[V,2]` (x, y).
        seed: proportions of the object; `None` is the kind's mean shape.
        background: `[V,3]` or `[1,3]`; white by default.

    Raises:
        UserError: the world has no such kind or colour.
    """
    lamp = (light or Light()).tensors(len(w2c), w2c.device)
    layers = stack([sculpt(kind, color, seed)], w2c.device)
    return trace(
        layers,
        w2c,
        tan_half_fov,
        width,
        height,
        background=background,
        light=lamp,
        supersample=supersample,
    )
