"""What a render depends on, in the form that every backend takes, and the checks of it."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Splats:
    """N Gaussians.

    Exactly one of (`quats_wxyz` and `scales`) | `cov3d`, and exactly one of `colors` | `sh`."""

    means: Tensor  # [N,3] world
    opacities: Tensor  # [N] 0..1
    quats_wxyz: Tensor | None = None  # [N,4] w x y z
    scales: Tensor | None = None  # [N,3] linear
    cov3d: Tensor | None = None  # [N,6] xx xy xz yy yz zz
    colors: Tensor | None = None  # [N,3]
    sh: Tensor | None = None  # [N,K,3]


OPTIONAL_SHAPES: dict[str, tuple[int | str, ...]] = {
    "quats_wxyz": (4,), "scales": (3,), "cov3d": (6,), "colors": (3,), "sh": ("K", 3),
}  # fmt: skip


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras; matrices map column vectors. Detached and contiguous."""

    view: Tensor  # [V,4,4] world to camera (x right, y down, z forward)
    proj: Tensor | None  # [V,4,4] world to clip; None: the principal point is the image centre
    tan_half_fov: Tensor  # [V,2] x, y
    positions: Tensor | None  # [V,3] world; None: those of `view`
    background: Tensor  # [V,3]

    def projections(self) -> Tensor:
        """`proj`, or what it is where it is None (native backends work that out themselves)."""
        if self.proj is not None:
            return self.proj
        proj = self.view[:, (0, 1, 2, 2)]
        proj[:, :2] /= self.tan_half_fov.unsqueeze(-1)
        return proj

    def centres(self) -> Tensor:
        """`positions`, or what they are where they are None."""
        if self.positions is not None:
            return self.positions
        return -(self.view[:, :3, :3].mT @ self.view[:, :3, 3:]).squeeze(-1)


@dataclass(frozen=True)
class Options:
    """Image size and conventions; the README says what each does and who needs it."""

    width: int
    height: int
    sh_degree: int = 0
    scale_modifier: float = 1.0
    tiles16: bool = False
    normalize_quats: bool = True
    detach_depth: bool = False
    clamp_passes_gradient: bool = False
    antialiasing: bool = False


def check_tensor(
    name: str, value: object, shape: tuple[int | str, ...], like: Tensor | None = None
) -> Tensor:
    """Returns `value` if it is a floating tensor of that shape (a letter matches any size), on the
    device and of the dtype of `like`; else raises TypeError or ValueError that names it."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a tensor of shape {_said(shape)}, got {type(value).__name__}"
        )
    if not _matches(shape, value.shape):
        raise ValueError(f"{name} must have shape {_said(shape)}, got {list(value.shape)}")
    dtype = value.dtype
    if dtype is not torch.float32 and dtype is not torch.float64:
        raise TypeError(f"{name} must be float32 (float64 with backend='reference'), got {dtype}")
    if like is None:
        return value
    if value.device != like.device:
        raise ValueError(
            f"{name} is on {value.device} but means is on {like.device}: move it with"
            f" .to({like.device})"
        )
    if dtype is not like.dtype:
        raise TypeError(f"{name} is {dtype} but means is {like.dtype}: convert one of them")
    return value


def _matches(shape: tuple[int | str, ...], have: torch.Size) -> bool:
    if len(have) != len(shape):
        return False
    # A dozen of these run in every step, and a generator is slower to start than this is to finish.
    for want, size in zip(shape, have, strict=True):
        if size != want and not isinstance(want, str):
            return False
    return True


def _said(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def check_finite(name: str, value: Tensor | None) -> None:
    """Raises ValueError that names a tensor with NaN or infinity in it."""
    if value is not None and not bool(torch.isfinite(value.detach()).all()):
        raise ValueError(f"{name} contains NaN or infinity")


def check_cameras(cameras: Cameras) -> None:
    """Raises ValueError that names the field with NaN or infinity, or tan_half_fov where it is not
    positive."""
    check_finite("view", cameras.view)
    check_finite("tan_half_fov", cameras.tan_half_fov)
    if not bool((cameras.tan_half_fov > 0).all()):  # before its quotients, which are then infinite
        raise ValueError("tan_half_fov must be positive")
    check_finite("proj", cameras.projections())
    check_finite("positions", cameras.centres())
    check_finite("background", cameras.background)


def renamed(error: ValueError, names: dict[str, str]) -> ValueError:
    """The error in the words of a caller's API: messages begin with the name of a field, and
    `names` translates it."""
    first, _, rest = str(error).partition(" ")
    return ValueError(f"{names.get(first, first)} {rest}")


def as_int(name: str, value: object) -> int:
    """Any integer as an int: numpy's, or a tensor of one; else raises TypeError that names it."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise TypeError(f"{name} must be an integer, got {type(value).__name__}")


def check_size(
    width: object, height: object, names: tuple[str, str] = ("width", "height")
) -> tuple[int, int]:
    """Image sizes as ints of at most 32768 (the native backends keep pixel coordinates in 16 bits).

    `names` are those of the caller's API."""
    sizes = []
    for name, value in zip(names, (width, height), strict=True):
        size = as_int(name, value)
        if not 1 <= size <= 32768:
            raise ValueError(f"{name} must be in 1..32768, got {size}")
        sizes.append(size)
    return sizes[0], sizes[1]


def check_splats(splats: Splats, options: Options, names: dict[str, str] | None = None) -> None:
    """Shapes, dtypes, devices and exclusive choices of the splats.

    `names` maps our names to those of the caller's API."""
    names = names or {}

    def said(field: str) -> str:
        return names.get(field, field)

    means = check_tensor(said("means"), splats.means, ("N", 3))
    count = means.shape[0]
    check_tensor(said("opacities"), splats.opacities, (count,), means)
    if (splats.colors is None) == (splats.sh is None):
        raise ValueError(f"give exactly one of {said('colors')} and {said('sh')}")
    if (splats.scales is None) != (splats.quats_wxyz is None):
        raise ValueError(
            f"{said('scales')} and {said('quats_wxyz')} come together: one of them is None"
        )
    if (splats.scales is None) == (splats.cov3d is None):
        raise ValueError(
            f"give exactly one of ({said('scales')}, {said('quats_wxyz')}) and {said('cov3d')}"
        )
    for field, shape in OPTIONAL_SHAPES.items():
        if (value := getattr(splats, field)) is not None:
            check_tensor(said(field), value, (count, *shape), means)
    if splats.sh is not None:
        check_degree(options.sh_degree, splats.sh, said("sh"))


def check_degree(degree: object, sh: Tensor, name: str) -> None:
    """The SH degree is 0..3 and `sh` holds its (degree + 1)^2 bases, or more (ignored, with zero
    gradient)."""
    if not isinstance(degree, int) or not 0 <= degree <= 3:
        raise ValueError(f"sh_degree must be 0, 1, 2 or 3, got {degree!r}")
    if sh.shape[1] < (degree + 1) ** 2:
        raise ValueError(
            f"{name} holds {sh.shape[1]} bases, sh_degree={degree} needs {(degree + 1) ** 2}"
        )
