"""`Splats`: the plain numpy form in which a splat enters and leaves files.

Knows no format; torch at its doors only."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gs_ssd.export.frames import (
    FloatArray,
    Frame,
    frame_rotation,
    multiply_quaternions,
    quaternion_from_rotation,
    sh_rotation,
)
from gs_ssd.maths.conventions import SH_C0

if TYPE_CHECKING:
    from torch import Tensor

    from gs_ssd.scene.gaussians import Gaussians

BASES = (1, 4, 9, 16)  #: harmonics up to degree 0, 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Splats:
    """N Gaussians in raw (unactivated) form, float32.

    means [N,3] · log_scales [N,3] (natural log of sigma) · quats_wxyz [N,4] (need not be unit) ·
    logit_opacities [N] · sh [N,K,3] (K = 1, 4, 9 or 16; display-referred sRGB, colour = SH_C0 *
    sh[:,0] + 0.5) ·
    frame: which axes they are in, see `gs_ssd.export.frames` ·
    antialiased: trained with Mip-Splatting's filter, which fades splats smaller than a pixel;
        viewers that know the
    mark draw them so ·
    offset: what was taken away from the positions of a file that lies too far out for float32, in
        `frame`'s axes.

    Raises:
        ValueError: shapes that do not belong together.
    """

    means: FloatArray
    log_scales: FloatArray
    quats_wxyz: FloatArray
    logit_opacities: FloatArray
    sh: FloatArray
    frame: Frame
    antialiased: bool = False
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        count = len(self.means)
        bases = self.sh.shape[1] if self.sh.ndim == 3 else 0
        wanted = {
            "means": (count, 3),
            "log_scales": (count, 3),
            "quats_wxyz": (count, 4),
            "logit_opacities": (count,),
            "sh": (count, bases, 3),
        }
        for name, shape in wanted.items():
            with np.errstate(over="ignore", invalid="ignore"):  # of damaged files, counted later
                array = np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
            object.__setattr__(self, name, array)
        if bases not in BASES:
            raise ValueError(f"sh has {bases} bases a colour, expected one of {BASES}")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """0, 1, 2 or 3."""
        return BASES.index(self.sh.shape[1])

    @property
    def scales(self) -> FloatArray:
        """Standard deviations [N,3], linear."""
        return np.exp(self.log_scales)

    @property
    def opacities(self) -> FloatArray:
        """Opacities [N] in 0..1."""
        return sigmoid(self.logit_opacities)

    @property
    def colors(self) -> FloatArray:
        """The view-independent part of the colour [N,3], nominally 0..1 but not clamped."""
        return SH_C0 * self.sh[:, 0] + 0.5

    @property
    def unit_quats_wxyz(self) -> FloatArray:
        """Quaternions [N,4] of unit length with w >= 0; the identity where a file held zeros."""
        with np.errstate(
            over="ignore"
        ):  # absurd numbers of damaged files, cleaned or refused later
            norm = np.linalg.norm(self.quats_wxyz, axis=1, keepdims=True)
        identity = np.array([1, 0, 0, 0], dtype=np.float32)
        unit = np.where(norm > 1e-20, self.quats_wxyz / np.maximum(norm, 1e-20), identity)
        return np.where(unit[:, :1] < 0, -unit, unit)

    @classmethod
    def joined(cls, parts: Sequence["Splats"], frame: Frame) -> "Splats":
        """All the splats of parts that are in the axes of `frame`, in their order; harmonics are
        padded to the highest degree among them."""
        degree = max(part.sh_degree for part in parts)
        padded = [part.with_sh_degree(degree) for part in parts]
        arrays = (np.concatenate([getattr(part, name) for part in padded]) for name in ARRAYS)
        means, log_scales, quats_wxyz, logit_opacities, sh = arrays
        return cls(means, log_scales, quats_wxyz, logit_opacities, sh, frame)

    def take(self, index: NDArray) -> "Splats":
        """The splats that a boolean mask or an integer index [M] selects."""
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})

    def rotated(self, rotation: FloatArray) -> "Splats":
        """The object turned by `rotation` [3,3]: means, quaternions and harmonics together; `frame`
        is kept."""
        turn = quaternion_from_rotation(rotation)
        x, y, z = (rotation @ np.array(self.offset)).tolist()
        sh = np.einsum("jk,nkc->njc", sh_rotation(rotation, self.sh_degree), self.sh)
        with np.errstate(invalid="ignore"):  # infinity times zero, where such splats are kept
            means = self.means.astype(np.float64) @ rotation.T
        return dataclasses.replace(
            self,
            means=means,
            quats_wxyz=multiply_quaternions(turn, self.quats_wxyz.astype(np.float64)),
            sh=sh,
            offset=(x, y, z),
        )

    def to_frame(self, frame: Frame) -> "Splats":
        """The same object in the axes of another frame."""
        if frame == self.frame:
            return self
        return dataclasses.replace(self.rotated(frame_rotation(self.frame, frame)), frame=frame)

    def with_sh_degree(self, degree: int) -> "Splats":
        """Harmonics cut, or padded with zeros, to `degree`."""
        bases = BASES[degree]
        padding = max(bases - self.sh.shape[1], 0)
        return dataclasses.replace(
            self, sh=np.pad(self.sh[:, :bases], ((0, 0), (0, padding), (0, 0)))
        )


ARRAYS = ("means", "log_scales", "quats_wxyz", "logit_opacities", "sh")


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


def logit(p: FloatArray, *, margin: float = 1e-6) -> FloatArray:
    """ln(p / (1-p)) with `p` kept `margin` away from 0 and 1, where files with 8-bit opacities
    often are."""
    p = np.clip(np.asarray(p, dtype=np.float64), margin, 1 - margin)
    return np.log(p) - np.log1p(-p)


def from_gaussians(gaussians: "Gaussians") -> Splats:
    """Copy the scene's parameters to the host, in the world frame."""

    def host(tensor: "Tensor") -> FloatArray:
        return tensor.detach().float().cpu().numpy()

    return Splats(
        means=host(gaussians.means),
        log_scales=host(gaussians.log_scales),
        quats_wxyz=host(gaussians.quats_wxyz),
        logit_opacities=host(gaussians.logit_opacities).reshape(-1),
        sh=np.concatenate([host(gaussians.sh_dc), host(gaussians.sh_rest)], axis=1),
        frame="world",
    )


def to_gaussians(splats: Splats) -> "Gaussians":
    """The scene's parameters, on the CPU and in the world frame, whatever frame the splats are
    in."""
    import torch

    from gs_ssd.scene.gaussians import Gaussians

    splats = splats.to_frame("world")
    sh = torch.from_numpy(splats.sh)
    return Gaussians(
        means=torch.from_numpy(splats.means),
        log_scales=torch.from_numpy(splats.log_scales),
        quats_wxyz=torch.from_numpy(splats.quats_wxyz),
        logit_opacities=torch.from_numpy(splats.logit_opacities),
        sh_dc=sh[:, :1].contiguous(),
        sh_rest=sh[:, 1:].contiguous(),
    )
