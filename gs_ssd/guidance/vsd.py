"""The trained half of Variational Score Distillation (ProlificDreamer, arXiv 2305.16213).

VSD subtracts, in place of the noise, the prediction of a copy of the prior that keeps learning what
the renderings look like: E = eps_g - eps_critic, with the critic trained in step on ||
eps_critic(x_t, t, y) - eps ||^2. The copy is a LoRA on the prior's own weights. The authors also
tell it the camera pose; here it hears the view-dependent prompt.
"""

from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.bounds import Bounds, settings
from gs_ssd.errors import UserError
from gs_ssd.maths.diffusion import NUM_TIMESTEPS, add_noise, normal
from gs_ssd.prior.base import DiffusionPrior, TrainablePrior, rows_at_once, views_per_group
from gs_ssd.prior.condition import Condition

MAX_SKIPPED = 40
"""Skipped steps of the critic in a row before the run gives up; the scale has then fallen by
2^40."""


@settings
class VsdConfig:
    """The critic.

    Each training step of it costs one more UNet image per view, forward and backward."""

    rank: Annotated[int, Bounds(1, 1024)] = 4
    learning_rate: Annotated[float, Bounds(0, 1, above=True)] = 1e-4
    """threestudio's for ProlificDreamer's LoRA."""
    steps: Annotated[int, Bounds(0, 100)] = 1
    """Training steps of the critic for each step of the splat."""


class Critic:
    """A trainable copy of the prior with its own Adam; its state belongs into checkpoints.

    Args:
        views_per_pass: predict at most twice as many images at a time, and learn from at most so
            many; `None`: all.

    Raises:
        UserError: a prior that offers no copy, or one driven by depth, which the copy would not
            hear of.
    """

    def __init__(
        self, prior: DiffusionPrior, config: VsdConfig, views_per_pass: int | None = None
    ) -> None:
        if not isinstance(prior, TrainablePrior):
            raise UserError(
                "guidance.estimator=vsd trains a copy of the prior, which this prior does not offer"
            )
        if prior.uses_depth:
            raise UserError(
                "guidance.estimator=vsd (and guidance.reference=critic) trains a copy of the prior"
                " that knows no depth: leave prior.controlnet out, or choose another estimator"
            )
        self.views_per_pass = views_per_pass
        self.config, self.copy = config, prior.trainable_copy(config.rank)
        self.group = views_per_group(prior)
        self.abar = prior.alphas_cumprod
        self.optimizer = torch.optim.AdamW(
            self.copy.parameters(), lr=config.learning_rate, weight_decay=0.0
        )
        # The LoRA's weights are float32, but in half precision its gradients pass through the
        # UNet's float16 activations, where small ones become zero. Scaling the loss keeps them; a
        # step that overflows is skipped.
        half = prior.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(prior.device.type, init_scale=2.0**16 if half else 1.0)
        self.skipped_in_a_row = 0

    @torch.no_grad()
    def predict(
        self, x_t: Float[Tensor, "b c h w"], t: Tensor, condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """The reference noise of VSD."""
        most = None if self.views_per_pass is None else 2 * self.views_per_pass
        most = rows_at_once(most, len(x_t), self.group)
        passes = zip(x_t.split(most), t.split(most), condition.split(most), strict=True)
        return torch.cat([self.copy.predict(*some) for some in passes])

    def learn(
        self, x: Float[Tensor, "b c h w"], condition: Condition, generator: torch.Generator
    ) -> None:
        """Move towards the noise prediction of a model of these renderings, at fresh timesteps and
        noise."""
        for _ in range(self.config.steps):
            t = torch.randint(  # one for the views of a group
                NUM_TIMESTEPS, (len(x) // self.group,), generator=generator, device=generator.device
            ).to(x.device)
            t = t.repeat_interleave(self.group)
            eps = normal(tuple(x.shape), generator, x)
            x_t = add_noise(x, eps, self.abar[t])
            most = rows_at_once(self.views_per_pass, len(x), self.group)
            self.optimizer.zero_grad(set_to_none=True)
            for some_x, some_eps, some_t, told in zip(
                x_t.split(most), eps.split(most), t.split(most), condition.split(most), strict=True
            ):
                with torch.enable_grad():
                    error = (self.copy.predict(some_x, some_t, told) - some_eps).square().mean()
                    self.scaler.scale(error.float() * (len(some_x) / len(x))).backward()
            self._step()

    def _step(self) -> None:
        """Adam's step where every gradient is finite; else the step is skipped and the loss scaled
        down.

        Raises:
            UserError: too many skipped steps in a row, as no scale helps against an activation that
                overflows.
        """
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if self.scaler.get_scale() < before else 0
        if self.skipped_in_a_row >= MAX_SKIPPED:
            raise UserError(
                f"VSD's critic had no finite gradient in {MAX_SKIPPED} steps in a row; try"
                " prior.dtype=bfloat16 or float32, or a smaller guidance.vsd.learning_rate (the"
                " last checkpoint is intact)"
            )

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's moments and the loss's scale."""
        weights = [parameter.detach().clone() for parameter in self.copy.parameters()]
        return {
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        with torch.no_grad():
            for parameter, saved in zip(self.copy.parameters(), state["weights"], strict=True):
                parameter.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        if "scaler" in state:  # checkpoints of earlier versions have none
            self.scaler.load_state_dict(state["scaler"])
