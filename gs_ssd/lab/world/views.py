"""Where the world is looked at from: the camera law that the prior is trained with and that 3D
sampling repeats."""

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from gs_ssd.maths import rotation


@dataclasses.dataclass(frozen=True)
class CameraLaw:
    """Ranges of the cameras, in world units (objects are at most 1.6 across) and degrees.

    Azimuth is uniform over the circle, but for a share of the cameras that keep to the front
    quarter. A share of the cameras look from high up, and a share are close-ups: a narrow field of
    view on a point away from the middle.
    """

    radius: tuple[float, float] = (3.1, 3.6)
    fov_y_deg: tuple[float, float] = (38.0, 42.0)
    elevation_deg: tuple[float, float] = (-15.0, 60.0)
    high_elevation_deg: tuple[float, float] = (60.0, 85.0)
    high_share: float = 0.08
    look_at_jitter: float = 0.06
    closeup_share: float = 0.12
    closeup_fov_y_deg: tuple[float, float] = (22.0, 34.0)
    closeup_look_at_jitter: float = 0.3
    front_share: float = 0.0


class Views(NamedTuple):
    w2c: Tensor  # [V,4,4]
    tan_half_fov: Tensor  # [V,2]
    azimuth_deg: Tensor  # [V]
    elevation_deg: Tensor  # [V]
    closeup: Tensor  # [V], bool


def orbit(
    azimuth_deg: Tensor, elevation_deg: Tensor, radius: Tensor | float, fov_y_deg: Tensor | float
) -> Views:
    """Square views of the origin.

    Azimuth 0 looks at the face from +y, azimuth 90 from +x (the object's right)."""
    radius, fov = (
        torch.as_tensor(x, dtype=torch.float32).expand_as(azimuth_deg) for x in (radius, fov_y_deg)
    )
    eye = _eye(azimuth_deg, elevation_deg, radius)
    closeup = torch.zeros_like(azimuth_deg, dtype=torch.bool)
    return Views(
        _upright(eye, torch.zeros_like(eye)), _tan_half(fov), azimuth_deg, elevation_deg, closeup
    )


def turntable(count: int = 16, radius: float = 3.35, fov_y_deg: float = 40.0) -> Views:
    """The fixed cameras of every check: equal azimuth steps, elevations 0, 15, 30 degrees in
    turn."""
    azimuth = torch.arange(count) * (360.0 / count)
    return orbit(azimuth, (torch.arange(count) % 3) * 15.0, radius, fov_y_deg)


def draw_views(count: int, law: CameraLaw, generator: torch.Generator) -> Views:
    """Cameras from the law (drawn on the generator's device)."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)

    azimuth = uniform(-180.0, 180.0)
    if law.front_share:
        azimuth = torch.where(uniform(0.0, 1.0) < law.front_share, azimuth / 4, azimuth)
    high = uniform(0.0, 1.0) < law.high_share
    elevation = torch.where(high, uniform(*law.high_elevation_deg), uniform(*law.elevation_deg))
    closeup = uniform(0.0, 1.0) < law.closeup_share
    fov = torch.where(closeup, uniform(*law.closeup_fov_y_deg), uniform(*law.fov_y_deg))
    jitter = torch.where(closeup, law.closeup_look_at_jitter, law.look_at_jitter)
    target = jitter[:, None] * torch.stack(
        [uniform(-1.0, 1.0), uniform(-1.0, 1.0), uniform(-1.0, 1.0)], 1
    )
    eye = _eye(azimuth, elevation, uniform(*law.radius))
    return Views(_upright(eye + target, target), _tan_half(fov), azimuth, elevation, closeup)


def _upright(eye: Tensor, target: Tensor) -> Tensor:
    up = torch.tensor([0.0, 0.0, 1.0], device=eye.device).expand_as(eye)
    return rotation.look_at(eye, target, up)


def _eye(azimuth_deg: Tensor, elevation_deg: Tensor, radius: Tensor) -> Tensor:
    azimuth, elevation = azimuth_deg * (math.pi / 180), elevation_deg * (math.pi / 180)
    flat = elevation.cos()
    return radius[:, None] * torch.stack(
        [flat * azimuth.sin(), flat * azimuth.cos(), elevation.sin()], 1
    )


def _tan_half(fov_deg: Tensor) -> Tensor:
    return (fov_deg * (math.pi / 360)).tan()[:, None].repeat(1, 2)
