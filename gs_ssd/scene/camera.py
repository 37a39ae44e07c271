"""A batch of pinhole cameras.

World z up, cameras OpenCV (x right, y down, z forward), angles in radians."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.devices import to_device
from gs_ssd.maths import rotation


def orbit_position(
    azimuth_rad: Float[Tensor, " v"], polar_rad: Float[Tensor, " v"], radius: Float[Tensor, " v"]
) -> Float[Tensor, "v 3"]:
    """Points r (sin(polar) sin(azimuth), sin(polar) cos(azimuth), cos(polar)): azimuth 0 is +y, 90
    degrees is +x."""
    return radius.unsqueeze(-1) * torch.stack(
        [polar_rad.sin() * azimuth_rad.sin(), polar_rad.sin() * azimuth_rad.cos(), polar_rad.cos()],
        dim=-1,
    )


def wrap_angle(angle_rad: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The same angle in (-pi, pi]."""
    return math.pi - torch.remainder(math.pi - angle_rad, 2 * math.pi)


@dataclasses.dataclass(frozen=True)
class Cameras:
    """V cameras of one image size.

    `azimuth_rad` (-pi, pi], `polar_rad` [0, pi] (from +z) and `radius` say where each camera stands
    on its orbit; they choose the prompt. `w2c` is what is rendered: it may carry a jitter that the
    three do not. `closeup` marks views of a part, which have a prompt of their own.
    """

    w2c: Float[Tensor, "v 4 4"]
    tan_half_fov: Float[Tensor, "v 2"]
    width: int
    height: int
    azimuth_rad: Float[Tensor, " v"]
    polar_rad: Float[Tensor, " v"]
    radius: Float[Tensor, " v"]
    closeup: Bool[Tensor, " v"]

    @staticmethod
    def orbit(
        azimuth_rad: Float[Tensor, " v"],
        polar_rad: Float[Tensor, " v"],
        radius: Float[Tensor, " v"],
        fov_y_rad: Float[Tensor, " v"],
        width: int,
        height: int,
        *,
        eye_offset: Float[Tensor, "v 3"] | None = None,
        target: Float[Tensor, "v 3"] | None = None,
        up: Float[Tensor, "v 3"] | None = None,
    ) -> "Cameras":
        """Cameras on orbits around the origin, looking at `target` (the origin) with `up` (+z)
        upwards.

        `eye_offset` is added to the positions. Pixels are square: the horizontal field of view
        follows the aspect.
        """
        eye = orbit_position(azimuth_rad, polar_rad, radius)
        if eye_offset is not None:
            eye = eye + eye_offset
        target = torch.zeros_like(eye) if target is None else target
        up = torch.tensor([0.0, 0.0, 1.0]).to(eye).expand_as(eye) if up is None else up
        tan_y = (fov_y_rad / 2).tan()
        return Cameras(
            w2c=rotation.look_at(eye, target, up),
            tan_half_fov=torch.stack([tan_y * (width / height), tan_y], dim=-1),
            width=width,
            height=height,
            azimuth_rad=wrap_angle(azimuth_rad),
            polar_rad=polar_rad,
            radius=radius,
            closeup=torch.zeros_like(azimuth_rad, dtype=torch.bool),
        )

    def __len__(self) -> int:
        return self.w2c.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Cameras":
        """The cameras of a slice or mask, still a batch."""
        chosen = {name: getattr(self, name)[index] for name in _TENSORS}
        return dataclasses.replace(self, **chosen)

    @staticmethod
    def cat(parts: Sequence["Cameras"]) -> "Cameras":
        """The cameras of all parts, which must agree in image size, as one batch."""
        if len({(part.width, part.height) for part in parts}) > 1:
            raise ValueError("cameras of different image sizes cannot be one batch")
        joined: dict[str, Any] = {
            n: torch.cat([getattr(part, n) for part in parts]) for n in _TENSORS
        }
        return dataclasses.replace(parts[0], **joined)

    def turned(self, angle_rad: Float[Tensor, " v"]) -> "Cameras":
        """The same cameras after a turn about the z axis that adds `angle_rad` to each azimuth."""
        cos, sin = angle_rad.cos(), angle_rad.sin()
        back = (
            torch.eye(4).to(self.w2c).repeat(len(self), 1, 1)
        )  # undoes the turn, then the camera looks as before
        back[:, 0, 0], back[:, 0, 1], back[:, 1, 0], back[:, 1, 1] = cos, -sin, sin, cos
        return dataclasses.replace(
            self, w2c=self.w2c @ back, azimuth_rad=wrap_angle(self.azimuth_rad + angle_rad)
        )

    def mirrored(self) -> "Cameras":
        """Cameras to which the object mirrored at x = 0 looks as it does to these, left for
        right."""
        flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])).to(self.w2c)
        azimuth = torch.where(self.azimuth_rad < math.pi, -self.azimuth_rad, self.azimuth_rad)
        return dataclasses.replace(self, w2c=flip @ self.w2c @ flip, azimuth_rad=azimuth)

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        moved = {name: to_device(getattr(self, name), torch.device(device)) for name in _TENSORS}
        return dataclasses.replace(self, **moved)

    @property
    def positions(self) -> Float[Tensor, "v 3"]:
        """Where the cameras stand, jitter included."""
        return -(self.w2c[:, :3, :3].transpose(1, 2) @ self.w2c[:, :3, 3:]).squeeze(-1)


_TENSORS = ("w2c", "tan_half_fov", "azimuth_rad", "polar_rad", "radius", "closeup")


def at_angles(
    azimuth_rad: Sequence[float],
    polar_rad: Sequence[float],
    *,
    radius: float,
    fov_y_rad: float,
    size: int,
) -> Cameras:
    """Square cameras at these angles, on the CPU."""
    ones = torch.ones(len(azimuth_rad))
    azimuth, polar = (
        torch.tensor(angle, dtype=torch.float32) for angle in (azimuth_rad, polar_rad)
    )
    return Cameras.orbit(azimuth, polar, ones * radius, ones * fov_y_rad, size, size)


def around(count: int, radius: float, fov_y_rad: float, size: int) -> Cameras:
    """Square cameras spread evenly over the sphere of directions (a Fibonacci lattice), on the
    CPU."""
    index = torch.arange(count, dtype=torch.float32)
    ones = torch.ones(count)
    polar = (1 - (2 * index + 1) / count).acos()
    azimuth = index * (math.pi * (3 - math.sqrt(5)))
    return Cameras.orbit(azimuth, polar, ones * radius, ones * fov_y_rad, size, size)


def ring(
    num_views: int,
    polar_rad: float,
    radius: float,
    fov_y_rad: float,
    size: int,
    *,
    device: torch.device | str = "cpu",
) -> Cameras:
    """`num_views` square cameras at equal azimuths, the first at the front: turntables, contact
    sheets, judges."""
    ones = torch.ones(num_views, device=device)
    azimuth = torch.arange(num_views, device=device) * (2 * math.pi / num_views)
    return Cameras.orbit(azimuth, ones * polar_rad, ones * radius, ones * fov_y_rad, size, size)


def in_groups(cameras: Cameras, size: int, tolerance_rad: float = 1e-3) -> bool:
    """Whether each `size` consecutive cameras stand evenly around the object, in any order, at one
    elevation, distance and field of view.

    Their numbers are needed on the host: keep the cameras on the CPU.
    """
    if size == 1:
        return True
    if len(cameras) % size:
        return False
    azimuth, *shared = (
        numbers.reshape(-1, size)
        for numbers in (
            cameras.azimuth_rad,
            cameras.polar_rad,
            cameras.radius,
            cameras.tan_half_fov[:, 1],
        )
    )
    step = 2 * math.pi / size
    turns = (azimuth - azimuth[:, :1]) / step
    slots = turns.round().remainder(size).sort(dim=1).values
    even = (slots == torch.arange(size).to(slots)).all() and (
        (turns - turns.round()).abs() * step < tolerance_rad
    ).all()
    alike = [((numbers - numbers[:, :1]).abs() < tolerance_rad).all() for numbers in shared]
    return bool(even) and all(map(bool, alike))
