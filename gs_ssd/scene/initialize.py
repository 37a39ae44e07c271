"""Floor 1: the first Gaussians: a ball, a box, a shell, or a point cloud file.

An earlier splat (`shape: splat`) is read by the trainer with the exporters' reader, which lives above this floor.
"""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.maths import harmonics
from gs_ssd.native import native
from gs_ssd.scene.gaussians import Gaussians

MIN_SQUARED_DISTANCE = 1e-7


@dataclasses.dataclass(frozen=True)
class InitializeConfig:
    """How training starts. `file` is a .ply: of points (with or without colours), or of splats if `shape` says so."""

    shape: Literal["ball", "sphere", "box", "shell", "points", "splat"] = "sphere"
    """ball: uniform in volume. sphere: LucidDreamer's, uniform in radius, polar angle and azimuth (dense at the
    centre and along z). shell: on the surface."""
    file: str | None = None
    num_points: int = 100_000
    radius: float = 0.5
    """Of the ball, sphere and shell; a point file is centred and scaled so that its points reach this far."""
    box: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Full extents in x, y and z."""
    keep_colors: bool = False
    """Take the colours of a point file instead of grey."""
    color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    opacity: float = 0.1
    scale: float | None = None
    """Standard deviation of every Gaussian; `None`: the root mean squared distance to its three neighbours."""
    sh_degree: int = 0


def create(config: InitializeConfig, generator: torch.Generator) -> Gaussians:
    """Fresh Gaussians on the CPU, drawn from `generator` (which must live there too).

    Raises:
        UserError: an impossible number, or a file that is missing, truncated or holds no points.
    """
    check(config)
    if config.shape == "splat":
        raise ValueError("a splat is read by gs_ssd.export.ply.read_ply, not here")
    if config.shape != "points":
        return from_points(sample_points(config, generator), None, config)
    points, rgb = read_points(Path(config.file or ""))
    return from_points(normalise(points, config.radius), rgb if config.keep_colors else None, config)


def check(config: InitializeConfig) -> None:
    """Refuse numbers that cannot start a training."""
    if config.shape in ("points", "splat") and not config.file:
        raise UserError(f"initialize.shape is '{config.shape}' but initialize.file is empty; name a .ply there")
    if config.num_points < 4:
        raise UserError(f"initialize.num_points is {config.num_points}; at least 4 are needed")
    if not 0 < config.opacity < 1:
        raise UserError(f"initialize.opacity is {config.opacity:g}; it must lie between 0 and 1, both excluded")
    if config.radius <= 0 or min(config.box) <= 0 or (config.scale is not None and config.scale <= 0):
        raise UserError("initialize.radius, initialize.box and initialize.scale must be positive")
    if not 0 <= config.sh_degree <= harmonics.MAX_DEGREE:
        raise UserError(f"initialize.sh_degree is {config.sh_degree}; it must be 0..{harmonics.MAX_DEGREE}")


def sample_points(config: InitializeConfig, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Points of one of the built-in shapes, centred at the origin."""
    uniform = torch.rand(config.num_points, 3, generator=generator)
    if config.shape == "box":
        return (uniform - 0.5) * torch.tensor(config.box)
    azimuth = 2 * math.pi * uniform[:, 0]
    if config.shape == "sphere":
        polar, radius = math.pi * uniform[:, 1], config.radius * uniform[:, 2]
    else:
        polar = torch.acos(1 - 2 * uniform[:, 1])
        radius = config.radius * (uniform[:, 2] ** (1 / 3) if config.shape == "ball" else torch.ones_like(azimuth))
    ring = radius * polar.sin()
    return torch.stack([ring * azimuth.sin(), ring * azimuth.cos(), radius * polar.cos()], dim=-1)


def normalise(points: Float[Tensor, "n 3"], radius: float) -> Float[Tensor, "n 3"]:
    """Move the middle of the bounding box to the origin and scale so that the farthest point lies at `radius`."""
    centred = points - (points.amin(dim=0) + points.amax(dim=0)) / 2
    reach = centred.norm(dim=-1).max()
    return centred * (radius / reach) if reach > 0 else centred


def from_points(
    points: Float[Tensor, "n 3"], rgb: Float[Tensor, "n 3"] | None, config: InitializeConfig
) -> Gaussians:
    """Isotropic, unrotated Gaussians at `points`, coloured `rgb` (0..1) or `config.color`."""
    num = len(points)
    rgb = torch.tensor(config.color).expand(num, 3) if rgb is None else rgb
    if config.scale is None:
        log_scale = 0.5 * mean_squared_distance(points).clamp_min(MIN_SQUARED_DISTANCE).log()
    else:
        log_scale = torch.full((num,), math.log(config.scale))
    return Gaussians(
        means=points.clone(),
        log_scales=log_scale.unsqueeze(-1).repeat(1, 3),
        quats_wxyz=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(num, 1),
        logit_opacities=torch.full((num,), math.log(config.opacity / (1 - config.opacity))),
        sh_dc=harmonics.rgb_to_dc(rgb).unsqueeze(1).clone(),
        sh_rest=torch.zeros(num, harmonics.num_bases(config.sh_degree) - 1, 3),
    )


def mean_squared_distance(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Mean squared distance to the three nearest neighbours (the quantity of `distCUDA2`)."""
    return native("simple_knn").mean_squared_distance(points.contiguous(), k=min(3, len(points) - 1))


def read_points(path: Path) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"] | None]:
    """Points of a .ply file and, where it has them, their colours in 0..1; axes are taken to be the world's.

    Raises:
        UserError: no such file, no PLY, truncated, fewer than 4 points, or points that are not finite.
    """
    from plyfile import PlyData, PlyParseError

    if not path.is_file():
        raise UserError(f"initialize.file: there is no file {path}")
    try:
        vertex = PlyData.read(str(path))["vertex"].data
        points = _columns(vertex, ("x", "y", "z"))
    except (PlyParseError, KeyError, ValueError, EOFError, OSError, UnicodeDecodeError, MemoryError) as error:
        raise UserError(f"initialize.file: {path} is not a readable .ply of points ({error}); write it again") from error
    if len(points) < 4 or not np.isfinite(points).all():
        raise UserError(f"initialize.file: {path} needs at least 4 points, all of them finite; it has {len(points)}")
    if not {"red", "green", "blue"} <= set(vertex.dtype.names):
        return torch.from_numpy(points), None
    rgb = _columns(vertex, ("red", "green", "blue"))
    return torch.from_numpy(points), torch.from_numpy(rgb / 255.0 if vertex.dtype["red"].kind == "u" else rgb)


def _columns(vertex: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([np.asarray(vertex[name], dtype=np.float32) for name in names], axis=-1)
