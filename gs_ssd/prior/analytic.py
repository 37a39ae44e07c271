"""A mixture of Gaussians whose noise prediction is exact: a diffusion model that one can check by
hand.

    P(x; y) = sum_k w_k(y) N(mu_k, v_k I)
    P_t     = sum_k w_k(y) N(alpha mu_k, V_k I),            V_k = alpha^2 v_k + sigma^2
    eps     = sigma sum_k gamma_k (x_t - alpha mu_k) / V_k,  gamma_k = posterior of k

(from eps = -sigma grad log P_t). The "embedding" of a prompt is the vector of weights w(y), so that
mixing two embeddings linearly is mixing the two distributions. It needs no weights on disk and
trains a splat in seconds.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from gs_ssd.maths.diffusion import alpha_sigma, scaled_linear_schedule
from gs_ssd.prior.base import BodyPicture
from gs_ssd.prior.condition import Condition

DISCS = {
    "red": (0.85, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.1, 0.2, 0.85),
    "yellow": (0.9, 0.8, 0.1),
}


class AnalyticPrior:
    """Exact `DiffusionPrior` of a Gaussian mixture; "latents" are average-pooled pictures, scaled
    to -1..1.

    Args:
        means: [K, C, h, w], the components' centres (C = 3 where pictures are to be encoded).
        variances: [K], isotropic.
        names: K words; a prompt that contains some of them is the mixture of just these components,
            in equal parts; a prompt that contains none (the empty one too) is the mixture of all.
        weights: [K], of the unconditional mixture; within a prompt's components they keep their
            proportions.
        pool: picture pixels per latent pixel and side.
        alphas_cumprod: [1000]; Stable Diffusion's by default.
    """

    def __init__(
        self,
        means: Float[Tensor, "k c h w"],
        variances: Float[Tensor, " k"],
        names: list[str],
        weights: Float[Tensor, " k"] | None = None,
        pool: int = 4,
        alphas_cumprod: Float[Tensor, " T"] | None = None,
    ) -> None:
        self.means = means
        self.variances = variances
        self.names = names
        self.weights = torch.full_like(variances, 1 / len(names)) if weights is None else weights
        self.image_size = means.shape[-1] * pool
        schedule = scaled_linear_schedule() if alphas_cumprod is None else alphas_cumprod
        self.alphas_cumprod = schedule.to(means)
        self.uses_depth = self.uses_cameras = False
        self.body_picture: BodyPicture | None = None
        self.metadata: dict[str, Any] = {}

    @classmethod
    def discs(cls, device: torch.device | str = "cpu", latent_size: int = 16) -> "AnalyticPrior":
        """A ball on grey in four colours ("red", "green", "blue", "yellow"): the prior of the smoke
        test."""
        line = torch.linspace(-1, 1, latent_size, device=device)
        distance = torch.hypot(line[:, None], line[None, :])
        inside = torch.sigmoid((0.5 - distance) * 2 * latent_size)
        colors = torch.tensor(list(DISCS.values()), device=device).reshape(-1, 3, 1, 1)
        pictures = inside * colors + (1 - inside) * 0.5
        return cls(2 * pictures - 1, torch.full((len(DISCS),), 0.02, device=device), list(DISCS))

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        return self.means.dtype

    def embed(self, prompts: list[str]) -> Float[Tensor, "p 1 k"]:
        """The components' weights for each prompt."""
        rows = []
        for prompt in prompts:
            words = prompt.lower().replace(",", " ").split()
            named = torch.tensor([name in words for name in self.names], device=self.device)
            row = self.weights * named if named.any() else self.weights
            rows.append(row / row.sum())
        return torch.stack(rows)[:, None, :]

    def overflow(self, prompt: str) -> str:  # noqa: ARG002 -- reads prompts of any length
        """Nothing is ever cut."""
        return ""

    def release_text_encoder(self) -> None:
        """There is none."""

    def encode(
        self,
        rgb: Float[Tensor, "b 3 H W"],
        generator: torch.Generator | None = None,  # noqa: ARG002 -- a plain linear map
    ) -> Float[Tensor, "b 3 h w"]:
        """Average pooling of 2 rgb - 1."""
        return adaptive_avg_pool2d(
            2 * rgb.to(self.dtype) - 1, (self.means.shape[-2], self.means.shape[-1])
        )

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 H W"]:
        """Nearest-neighbour enlargement of the latents."""
        return interpolate(
            (latents.float() + 1) / 2, size=(self.image_size, self.image_size)
        ).clamp(0, 1)

    def trainable_copy(self, rank: int) -> "MovingMixture":  # noqa: ARG002 -- small enough without a low-rank form
        """The same mixture with means that can move."""
        return MovingMixture(self)

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, "b c h w"]:
        """The exact eps(x_t, t, y); its reductions over pixels keep the dtype of the means (use
        float64 in proofs)."""
        return self.exact_noise(self.means, x_t, t, condition.text)

    def exact_noise(self, means: Tensor, x_t: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """The formula at the top, for components at `means`, with gradient."""
        x = x_t.to(self.dtype)
        alpha, sigma = alpha_sigma(self.alphas_cumprod[t], x)
        offset = x[:, None] - alpha[:, None] * means
        variance = alpha.reshape(-1, 1) ** 2 * self.variances + sigma.reshape(-1, 1) ** 2
        log_density = -0.5 * (
            offset.square().sum(dim=(2, 3, 4)) / variance + x[0].numel() * variance.log()
        )
        posterior = torch.softmax(log_density + embeddings[:, 0].to(x).log(), dim=1)
        return (sigma * torch.einsum("bk,bkchw->bchw", posterior / variance, offset)).to(x_t.dtype)


class MovingMixture:
    """A copy of the mixture whose means are trained."""

    def __init__(self, prior: AnalyticPrior) -> None:
        self.prior = prior
        self.means = torch.nn.Parameter(prior.means.detach().clone())

    def parameters(self) -> list[torch.nn.Parameter]:
        """The means."""
        return [self.means]

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Exact for the means as they are."""
        return self.prior.exact_noise(self.means, x_t, t, condition.text)
