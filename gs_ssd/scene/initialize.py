"""The first Gaussians: a ball, a box, a shell, or the points of a file.

What needs a room above this floor is brought in by `gs_ssd.assets.splat.initial`: an earlier splat
(`shape: splat`, the exporters' reader) and the shape of a sentence (`shape: text`, of the prior or
Shap-E). Nothing is cached, so nothing stale can be read back.
"""

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from gs_ssd.bounds import Bounds, Share, settings
from gs_ssd.errors import UserError
from gs_ssd.maths import harmonics
from gs_ssd.native import native
from gs_ssd.scene import initialize_files
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.initialize_files import Frame

MIN_SQUARED_DISTANCE = 1e-7
Length = Annotated[float, Bounds(0, 100, above=True)]


@settings
class InitializeConfig:
    """How training starts."""

    shape: Literal["ball", "sphere", "box", "shell", "points", "mesh", "splat", "text"] = "sphere"
    """ball: uniform in volume. sphere: LucidDreamer's, uniform in radius, polar angle and azimuth
    (dense at the centre and along z). shell: on the surface. points, mesh, splat: of `file`. text:
    the prior's or Shap-E's idea of `text`."""
    file: str | None = None
    """points: .ply (or what open3d reads); mesh: what open3d reads; splat: what
    `gs-ssd export` reads."""
    frame: Frame | None = None
    """Axes of a file of points or a mesh; `None`: glTF's own for .glb and .gltf, else the world's
    (z up, front +y)."""
    text: str | None = None
    """A plain noun for the shape, which need not be the prompt ("a man head"); `None`: the
    prompt."""
    text_model: str | None = None
    """Hub id or folder of a diffusers ShapEPipeline; `None`: the prior's own shape, where it has
    one (the bundled prior), else openai/shap-e. The prior's own keeps its size, whatever `radius`
    is, and uses no other `text_` key."""
    text_steps: Annotated[int, Bounds(1, 1000)] = 64
    text_guidance: Annotated[float, Bounds(-1000, 1000)] = 15.0
    text_grid: Annotated[int, Bounds(4, 512)] = 128
    """Cells a side of Shap-E's marching cubes."""
    num_points: Annotated[int, Bounds(4, 20_000_000)] = 100_000
    """Of a built-in shape, a mesh or a text. A point file keeps its own number, unless it has more,
    or `spread` is positive."""
    spread: Annotated[float, Bounds(0, 100)] = 0.0
    """Every point of a file or text is moved within a ball of this radius (LucidDreamer: 0.05), and
    a file with fewer points than `num_points` is repeated until it has them."""
    radius: Length = 0.5
    """Of the ball, sphere and shell; what comes from a file or text is centred and scaled to reach
    this far."""
    rescale: bool = False
    """A splat is taken as it is; true: its body too is centred and scaled to `radius`."""
    box: tuple[Length, Length, Length] = (1.0, 1.0, 1.0)
    """Full extents in x, y and z."""
    keep_colors: bool = False
    """Take the colours of the file or text instead of `color`."""
    color: tuple[Share, Share, Share] = (0.5, 0.5, 0.5)
    opacity: Annotated[float, Bounds(0, 1, above=True, below=True)] = 0.1
    scale: Length | None = None
    """Standard deviation of every Gaussian; `None`: the root mean squared distance to its three
    neighbours."""
    sh_degree: Annotated[int, Bounds(0, harmonics.MAX_DEGREE)] = 0

    def __post_init__(self) -> None:
        if self.shape in ("points", "mesh", "splat") and not self.file:
            raise UserError(
                f"initialize.shape is '{self.shape}' but initialize.file is empty; name a file"
                " there"
            )


def create(config: InitializeConfig, generator: torch.Generator) -> Gaussians:
    """Fresh Gaussians on the CPU, drawn from `generator` (which must live there too).

    Raises:
        UserError: a file that is missing, truncated or holds no points.
    """
    if config.shape in ("splat", "text"):
        raise ValueError(
            f"initialize.shape={config.shape} is made by gs_ssd.assets.splat.initial, not here"
        )
    path = Path(config.file or "")
    if config.shape == "points":
        return from_cloud(*initialize_files.read_points(path, config.frame), config, generator)
    if config.shape == "mesh":
        mesh = initialize_files.read_mesh(path, config.frame)
        return from_cloud(
            *initialize_files.sample_surface(mesh, config.num_points, generator), config, generator
        )
    return from_points(sample_points(config, generator), None, config)


def from_cloud(
    points: Float[Tensor, "n 3"],
    rgb: Float[Tensor, "n 3"] | None,
    config: InitializeConfig,
    generator: torch.Generator,
) -> Gaussians:
    """Gaussians at somebody else's points (world axes): brought to number, to size, and to grey
    unless told."""
    wanted = (
        config.num_points if len(points) > config.num_points or config.spread > 0 else len(points)
    )
    points = normalise(points, config.radius)
    if len(points) != wanted:
        repeats = -(-wanted // len(points))
        order = torch.cat(
            [torch.randperm(len(points), generator=generator) for _ in range(repeats)]
        )[:wanted]
        points, rgb = points[order], None if rgb is None else rgb[order]
    if config.spread > 0:
        points = points + config.spread * uniform_ball(
            torch.rand(len(points), 3, generator=generator)
        )
    return from_points(points, rgb if config.keep_colors else None, config)


def sample_points(config: InitializeConfig, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Points of one of the built-in shapes, centred at the origin."""
    uniform = torch.rand(config.num_points, 3, generator=generator)
    if config.shape == "box":
        return (uniform - 0.5) * torch.tensor(config.box)
    if config.shape == "sphere":
        radius, polar, azimuth = uniform[:, 2], math.pi * uniform[:, 1], 2 * math.pi * uniform[:, 0]
        return config.radius * _spherical(radius, polar, azimuth)
    if config.shape == "shell":
        uniform[:, 2] = 1.0
    return config.radius * uniform_ball(uniform)


def uniform_ball(uniform: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Points spread evenly over the volume of the unit ball, from uniforms in 0..1; a third of 1 is
    on its surface."""
    return _spherical(
        uniform[:, 2] ** (1 / 3), torch.acos(1 - 2 * uniform[:, 1]), 2 * math.pi * uniform[:, 0]
    )


def _spherical(radius: Tensor, polar: Tensor, azimuth: Tensor) -> Float[Tensor, "n 3"]:
    ring = radius * polar.sin()
    return torch.stack([ring * azimuth.sin(), ring * azimuth.cos(), radius * polar.cos()], dim=-1)


def normalise(points: Float[Tensor, "n 3"], radius: float) -> Float[Tensor, "n 3"]:
    """Move the middle of the bounding box to the origin and scale so that the farthest point lies
    at `radius`."""
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
    count = min(3, len(points) - 1)
    if points.is_cuda:
        return native("simple_knn").mean_squared_distance(points.contiguous(), k=count)
    places = points.double().numpy()
    distances, _ = KDTree(places).query(places, k=range(2, count + 2))  # the first is the point
    return torch.from_numpy(np.square(distances).mean(axis=1)).to(points)
