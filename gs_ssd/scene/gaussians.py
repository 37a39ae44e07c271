"""The raw parameters of N Gaussians. Every name says the space its numbers live in."""

import dataclasses
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PARAMETERS = ("means", "log_scales", "quats_wxyz", "logit_opacities", "sh_dc", "sh_rest")


@dataclasses.dataclass
class Gaussians:
    """Raw, optimizable parameters; `scales`, `opacities` and `sh` are their activated views.

    World units, z up. `quats_wxyz` need not be of unit length. Colour seen from everywhere:
    0.28209479 sh_dc + 0.5.
    """

    means: Float[Tensor, "n 3"]
    log_scales: Float[Tensor, "n 3"]
    quats_wxyz: Float[Tensor, "n 4"]
    logit_opacities: Float[Tensor, " n"]
    sh_dc: Float[Tensor, "n 1 3"]
    sh_rest: Float[Tensor, "n k 3"]

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Float[Tensor, "n 3"]:
        """Standard deviations along the three axes, world units."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, " n"]:
        """Opacities in 0..1."""
        return self.logit_opacities.sigmoid()

    @property
    def sh(self) -> Float[Tensor, "n k 3"]:
        """All K coefficients, DC first."""
        return torch.cat([self.sh_dc, self.sh_rest], dim=1) if self.sh_rest.shape[1] else self.sh_dc

    @property
    def finite(self) -> Bool[Tensor, " n"]:
        """Whose numbers, raw and activated, are all finite."""
        numbers = (*self.parameters().values(), self.scales)
        rows = torch.cat(
            [tensor.reshape(len(self), -1) for tensor in numbers if tensor.numel()], dim=1
        )
        return rows.isfinite().all(dim=1)

    @property
    def sh_degree(self) -> int:
        """Degree of the stored harmonics, 0..3."""
        return math.isqrt(1 + self.sh_rest.shape[1]) - 1

    @property
    def device(self) -> torch.device:
        return self.means.device

    def parameters(self) -> dict[str, Tensor]:
        """The six raw tensors by name, in a fixed order."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def requires_grad_(self) -> "Gaussians":
        """Turn the six tensors into leaves that receive gradients, in place."""
        for name, tensor in self.parameters().items():
            setattr(self, name, tensor.detach().clone().requires_grad_())
        return self

    def detach(self) -> "Gaussians":
        """The same numbers without a graph, sharing memory."""
        return Gaussians(**{name: tensor.detach() for name, tensor in self.parameters().items()})

    def to(self, device: torch.device | str) -> "Gaussians":
        """The same numbers on another device."""
        return Gaussians(**{name: tensor.to(device) for name, tensor in self.parameters().items()})
