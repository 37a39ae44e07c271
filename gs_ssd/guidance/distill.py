"""One step of score distillation: pictures in, a loss whose gradient is w(t) E on the latents.

    z = encode(rgb) -> t -> x_t, eps_ref -> ONE noise prediction for all prompts -> h -> E -> w(t) E

The estimator is a pure function of `estimators.py`; which predictions are made is read off its
signature.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function
from torch.utils.checkpoint import checkpoint

from gs_ssd.devices import to_device
from gs_ssd.errors import UserError
from gs_ssd.guidance import trajectory
from gs_ssd.guidance.config import DistillConfig, check_groups, resolve, t_range
from gs_ssd.guidance.estimators import ESTIMATORS, Estimator, guided
from gs_ssd.guidance.perp_neg import combine
from gs_ssd.guidance.predictor import Predictor
from gs_ssd.guidance.prompts import ViewBatch, ViewPrompts
from gs_ssd.guidance.trajectory import Noised
from gs_ssd.guidance.vsd import Critic
from gs_ssd.maths import anneal
from gs_ssd.maths.diffusion import NUM_TIMESTEPS, WEIGHTINGS, x0_from_eps
from gs_ssd.prior.base import DiffusionPrior, views_per_group
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import Cameras, in_groups


@dataclass(frozen=True)
class DistillationResult:
    """One step's outcome. Tensors stay on the device; reading one is the only host sync."""

    loss: Float[Tensor, ""]
    """0.5 ||w E||^2 in value, with gradient exactly w(t) E on each view's latents (a sum over
    views; no 1/V unless `average_views`)."""
    gradient: Float[Tensor, "v c h w"]
    """w(t) E, after normalisation and clipping."""
    t: Int[Tensor, " v"]
    unet_images: int
    """Latent images that the noise prediction evaluated, inversion included."""
    bad_latents: Int[Tensor, ""]
    """Non-finite numbers that the encoder made (above 0: the VAE overflows; set
    prior.vae_dtype=float32)."""
    bad_predictions: Int[Tensor, ""]
    """Non-finite numbers in the raw gradient; they were replaced by 0."""
    preview: Callable[[], Float[Tensor, "v 3 H W"]]
    """Decodes the guided x0 prediction: what the prior would like to see."""

    @property
    def grad_norm(self) -> Float[Tensor, ""]:
        return self.gradient.norm()


class Distillation:
    """Everything that stays the same over a run: prior, embeddings, estimator and laws.

    Args:
        prompt: the sentence.
        num_steps: the run's length, on which the annealing laws depend.
        anyway: continue with a prompt that the prior does not know.
        estimator: a function of your own in place of `config.estimator`; see `estimators.py` for
            its arguments.

    Raises:
        UserError: a bad prompt or config value; the message names the key.
    """

    def __init__(
        self,
        config: DistillConfig,
        prior: DiffusionPrior,
        prompt: str,
        *,
        num_steps: int,
        anyway: bool = False,
        estimator: Estimator | None = None,
    ) -> None:
        self.prior, self.num_steps = prior, num_steps
        self.config = config = resolve(config, prior.metadata, estimator)
        self.group = views_per_group(prior)
        check_groups(config, self.group)
        self.estimator = estimator or ESTIMATORS[config.estimator]
        self.needs = set(inspect.signature(self.estimator).parameters)
        self.weighting = WEIGHTINGS[config.weighting]
        self.trajectory = config.trajectory
        self.t_schedule = config.t_schedule
        self.prompts = ViewPrompts(
            prior, prompt, config.prompts, anyway=anyway, needs_negative="eps_neg" in self.needs
        )
        learns = config.reference == "critic" and "eps_ref" in self.needs
        self.critic = Critic(prior, config.vsd, config.views_per_pass) if learns else None

    def step(
        self,
        rgb: Float[Tensor, "v 3 H W"],
        cameras: Cameras,
        step: int,
        generator: torch.Generator,
        depth: Float[Tensor, "v 1 H W"] | None = None,
        image: Float[Tensor, "v c h w"] | None = None,
    ) -> DistillationResult:
        """One loss for V rendered views (0..1).

        `depth` is 0 far .. 1 near, where depth is used at all; `image` is of the body, for a prior
        that is told the pose by it.

        Keep the cameras and the generator on the CPU: some of their numbers are needed on the host,
        where a GPU's cost a sync.

        Raises:
            ValueError: no depth where it is used; views that are no groups for a prior that
                predicts groups.
        """
        if not in_groups(cameras, self.group):
            raise ValueError(
                f"the prior predicts views in groups of {self.group}: consecutive azimuths evenly"
                " around the object, at one elevation, distance and field of view"
            )
        mirrored = bool(self.config.flip) and self._coin(self.config.flip, generator)
        as_depth = bool(self.config.depth_as_latents) and self._coin(
            self.config.depth_as_latents, generator
        )
        if (as_depth or self.prior.uses_depth) and depth is None:
            raise ValueError(
                "depth is None, but depth_as_latents or a depth ControlNet asks for it"
            )
        if mirrored:
            rgb = rgb.flip(-1)
            depth, image = (None if x is None else x.flip(-1) for x in (depth, image))
            cameras = cameras.mirrored()
        picture = depth.expand(-1, 3, -1, -1) if as_depth and depth is not None else rgb
        with record_function("gs_ssd.encode"):
            latents = self._encode(picture, generator)
        with torch.no_grad():
            control = depth.detach() if self.prior.uses_depth and depth is not None else None
            views = self.prompts.at(cameras, control, image)
            return self._distill(latents, views, step, generator)

    def _encode(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Latents with their gradient; in passes that keep nothing but their pictures, where the
        config says so."""
        size, sample = self.config.views_per_pass, self.config.sample_posterior
        if size is None or size >= len(pictures):
            return self.prior.encode(pictures, generator if sample else None)

        parts = []
        for some in pictures.split(size):
            # A stream of its own: the pass runs again on the way back and must draw the same.
            seed = (
                int(torch.randint(2**62, (), generator=generator, device=generator.device))
                if sample
                else None
            )
            parts.append(checkpoint(self._encode_pass, some, seed, use_reentrant=False))
        return torch.cat(parts)

    def _encode_pass(self, pictures: Tensor, seed: int | None) -> Tensor:
        return self.prior.encode(
            pictures, None if seed is None else torch.Generator().manual_seed(seed)
        )

    def _distill(
        self, latents: Tensor, views: ViewBatch, step: int, generator: torch.Generator
    ) -> DistillationResult:
        most = None if self.config.views_per_pass is None else 2 * self.config.views_per_pass
        call = Predictor(self.prior, most)
        t = self.draw_timesteps(latents.shape[0], step, generator)
        host_t = int(t[0]) if self.trajectory != "noise" else 0
        t = to_device(t, latents.device)
        x = torch.nan_to_num(latents.detach())
        noised = self._noise(call, x, t, host_t, views, step, generator)
        eps_ref = noised.references.get(str(self.config.reference), noised.eps_ref)
        if self.critic is not None:
            eps_ref = self.critic.predict(noised.x_t, t, views.main)
            self.critic.learn(x, views.main, generator)
            call.images += len(x) * (1 + self.config.vsd.steps)
        predictions = self._predict(call, noised.x_t, t, views)
        direction = self.estimator(
            **predictions, eps_ref=eps_ref, t=t, M=self.config.M, cfg_scale=self.config.cfg_scale
        )
        raw = self._weigh(direction, t)
        gradient = self._clip(torch.nan_to_num(raw, nan=0.0, posinf=0.0, neginf=0.0))
        with torch.enable_grad():
            # The detached-target loss 0.5 ||z - stopgrad(z - g)||^2, arranged so that no digit of g
            # is lost in z - g.
            loss = 0.5 * gradient.square().sum() + (gradient * (latents - latents.detach())).sum()
        eps = (
            guided(predictions["eps_uncond"], predictions["h"], 7.5)
            if "h" in predictions
            else predictions["eps_pos"]
        )
        abar = self.prior.alphas_cumprod[t]
        return DistillationResult(
            loss=loss,
            gradient=gradient,
            t=t,
            unet_images=call.images,
            bad_latents=(~latents.isfinite()).sum(),
            bad_predictions=(~raw.isfinite()).sum(),
            preview=lambda: self.prior.decode(x0_from_eps(noised.x_t, eps, abar)),
        )

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step and must survive a resume (nothing, unless a critic is
        trained)."""
        return {} if self.critic is None else self.critic.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        if bool(state) != (self.critic is not None):
            raise UserError(
                "the checkpoint was made with another guidance.estimator or .reference (a critic is"
                " trained, or is not)"
            )
        if self.critic is not None:
            self.critic.load_state_dict(state)

    def draw_timesteps(
        self, views: int, step: int, generator: torch.Generator
    ) -> Int[Tensor, " v"]:
        """Uniform integers in [low, high) of this step's range; one per view, or one for all."""
        low, high = t_range(self.t_schedule, anneal.progress(step, self.num_steps))
        count = views if self.config.t_per_view and self.trajectory == "noise" else 1
        u = torch.rand(count, generator=generator, device=generator.device)
        t = (NUM_TIMESTEPS * (low + u * (high - low))).long().clamp(0, NUM_TIMESTEPS - 1)
        return t.expand(views)

    def _noise(
        self,
        call: Predictor,
        x: Tensor,
        t: Tensor,
        host_t: int,
        views: ViewBatch,
        step: int,
        generator: torch.Generator,
    ) -> Noised:
        options, abar = self.config.trajectories, self.prior.alphas_cumprod
        null, negative = (
            views.main.with_text(text) for text in (self.prompts.null, self.prompts.negative)
        )
        if self.trajectory == "noise":
            return trajectory.plain(x, abar[t], options.offset_noise, generator)
        if self.trajectory == "ism":
            path = trajectory.ism_path(
                host_t,
                trajectory.ism_interval(options, anneal.progress(step, self.num_steps)),
                options,
            )
            reverse = options.ism_reverse_scale
            predict = call.guided(null, negative, reverse) if reverse > 1 else call.alone(null)
            return trajectory.ism(x, path, predict, abar, options.offset_noise, generator)
        path = trajectory.sdi_path(host_t, options.sdi_steps)
        predict = call.guided(negative, views.main, options.sdi_cfg_scale)
        return trajectory.sdi(x, path, predict, abar, options.sdi_eta, generator)

    def _predict(
        self, call: Predictor, x_t: Tensor, t: Tensor, views: ViewBatch
    ) -> dict[str, Tensor]:
        """Every prediction that the estimator asks for, in one call; zero-weight complements are
        left out."""
        beside_null = "eps_neg" in self.needs
        roles = {"eps_pos": views.main}
        if self.needs & {"h", "eps_uncond"}:
            slot = self.prompts.null if beside_null else self.prompts.negative
            roles["eps_uncond"] = views.main.with_text(slot)
        if beside_null:
            roles["eps_neg"] = views.main.with_text(self.prompts.negative)
        live = views.live if "h" in self.needs else []
        count = x_t.shape[0]
        index = [*range(count)] * len(roles) + [v for _, v in live]
        complements = [views.negatives[k][v : v + 1] for k, v in live]
        out = call(x_t, t, index, Condition.cat([*roles.values(), *complements]))
        parts = dict(zip(roles, out[: count * len(roles)].split(count), strict=True))
        if "h" in self.needs:
            parts["h"] = parts["eps_pos"] - parts["eps_uncond"]
            if live:
                deltas = torch.zeros(
                    (len(views.weights), *x_t.shape), dtype=x_t.dtype, device=x_t.device
                )
                for (k, v), eps in zip(live, out[count * len(roles) :], strict=True):
                    deltas[k, v] = eps - parts["eps_uncond"][v]
                parts["h"] = combine(
                    parts["h"], deltas, to_device(torch.tensor(views.weights), x_t.device)
                )
        return parts

    def _weigh(self, direction: Tensor, t: Tensor) -> Tensor:
        if self.config.normalize == "unit":
            rms = direction.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            direction = direction * (self.config.unit_rms / rms.clamp_min(1e-20))
        scale = self.config.scale / (len(direction) if self.config.average_views else 1)
        weight = scale * self.weighting(self.prior.alphas_cumprod[t])
        return weight.reshape(-1, 1, 1, 1).to(direction) * direction

    def _clip(self, gradient: Tensor) -> Tensor:
        if self.config.max_norm is None:
            return gradient
        return gradient * (self.config.max_norm / gradient.norm().clamp_min(1e-20)).clamp_max(1.0)

    @staticmethod
    def _coin(probability: float, generator: torch.Generator) -> bool:
        return bool(torch.rand((), generator=generator, device=generator.device) < probability)
