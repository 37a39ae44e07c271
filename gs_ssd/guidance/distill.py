"""One step of score distillation: pictures in, a loss whose gradient is w(t) E on the latents.

    z = encode(rgb) -> t -> x_t, eps_ref -> ONE noise prediction for all prompts -> h -> E -> w(t) E

The estimator is a pure function of `estimators.py`; which predictions are made is read off its
signature.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator, ValidationError
from torch import Tensor
from torch.profiler import record_function
from torch.utils.checkpoint import checkpoint

from gs_ssd.bounds import IN_ORDER, Bounds, Positive, Share, choice, settings
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError
from gs_ssd.guidance import trajectory
from gs_ssd.guidance.estimators import ESTIMATORS, SETTINGS, Estimator, Setting, guided
from gs_ssd.guidance.perp_neg import combine
from gs_ssd.guidance.prompts import PromptConfig, ViewBatch, ViewPrompts, default_negative
from gs_ssd.guidance.trajectory import Noised, TrajectoryConfig
from gs_ssd.guidance.vsd import Critic, VsdConfig
from gs_ssd.maths import anneal
from gs_ssd.maths.diffusion import NUM_TIMESTEPS, WEIGHTINGS, x0_from_eps
from gs_ssd.prior.base import DiffusionPrior, rows_at_once, views_per_group
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import Cameras, in_groups

TrajectoryName = Annotated[str, choice(trajectory.REFERENCES)]


def _low_high(
    schedule: tuple[tuple[float, float, float], ...],
) -> tuple[tuple[float, float, float], ...]:
    if not schedule or any(low > high for _, low, high in schedule):
        raise ValueError("it needs knots [share of the run, lowest t, highest t]")
    return schedule


TSchedule = Annotated[tuple[tuple[Share, Share, Share], ...], IN_ORDER, AfterValidator(_low_high)]
LUCID_T_SCHEDULE: TSchedule = ((0.0, 0.02, 0.98), (0.3, 0.02, 0.5))


@settings
class DistillConfig:
    """How the 2D prior's opinion of a picture becomes a gradient.

    `None` means: the estimator's or the prior's own."""

    estimator: Annotated[str, choice(ESTIMATORS)] = "ssd"
    """A name in `estimators.ESTIMATORS`."""
    M: Annotated[int, Bounds(0, NUM_TIMESTEPS)] | None = None
    """SSD seeks modes at t <= M (of 1000). None: the prior's measured M, else 80 with Perp-Neg and
    200 without."""
    cfg_scale: Annotated[float, Bounds(-10_000, 10_000)] | None = None
    """g of eps_g = eps_uncond + g h. SSD and CSD use none."""
    weighting: Annotated[str, choice(WEIGHTINGS)] | None = None
    """w(t), a name in `diffusion.WEIGHTINGS`."""
    scale: Positive = 1.0
    """A common factor on w(t) (LucidDreamer's lambda_guidance, 0.1 there)."""
    average_views: bool = False
    """Divide the gradient by the number of views, as threestudio does; false: views are summed."""
    t_schedule: TSchedule | None = None
    """Knots (share of the run, lowest t, highest t), t as a share of 1000, straight lines between.
    None: the prior's measured one, else LucidDreamer's: .02 to .98, whose upper end falls to .5
    over the first 30 % of the run."""
    t_per_view: bool = True
    """One t a view; False: one for the batch, as LucidDreamer (and always with DDIM inversion)."""
    trajectory: TrajectoryName | None = None
    """noise | ism | sdi: how x_t arises."""
    reference: Annotated[str, choice(("drawn", "last", "found", "critic"))] | None = None
    """drawn | last | found | critic: the noise that x_t is credited with. None: the trajectory's
    own; VSD's critic."""
    trajectories: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    flip: Share = 0.0
    """Probability of mirroring the batch, left for right (the azimuth changes sign with it)."""
    depth_as_latents: Share = 0.0
    """Probability of encoding the depth map instead of the colours."""
    sample_posterior: bool = False
    """Encode with a sample of the VAE's posterior instead of its mean."""
    views_per_pass: Annotated[int, Bounds(1, 64)] | None = None
    """Encode this many views at a time, and predict at most twice as many images at a time, to save
    memory; the encoder then runs forward twice. A critic learns from as many views at a time. None:
    all at once."""
    normalize: Literal["none", "unit"] = "none"
    """none | unit: scale each view's E to a root mean square of `unit_rms` before w(t): the prior's
    scale no longer matters."""
    unit_rms: Positive = 0.1
    vsd: VsdConfig = field(default_factory=VsdConfig)
    max_norm: Annotated[float, Bounds(0, 1e12, above=True)] | None = None
    """Shrink the batch's gradient to at most this norm."""


@settings
class Guidance(DistillConfig):
    """Settings with nothing open that the estimator asks for."""

    weighting: Annotated[str, choice(WEIGHTINGS)] = "uniform"
    t_schedule: TSchedule = LUCID_T_SCHEDULE
    trajectory: TrajectoryName = "noise"


def resolve(
    config: DistillConfig, metadata: Mapping[str, Any], estimator: Estimator | None = None
) -> Guidance:
    """Fill what is open: from the settings of the estimator's authors, then the prior's measured
    recipe, then ours.

    What the estimator (a function of your own, or the one that the config names) does not ask for
    stays open.

    Raises:
        UserError: a reference that the trajectory does not have, or a prior whose recipe cannot be.
    """
    own = SETTINGS.get(config.estimator, Setting()) if estimator is None else Setting()
    needs = inspect.signature(estimator or ESTIMATORS[config.estimator]).parameters
    path = config.trajectory or own.trajectory
    offered = trajectory.REFERENCES[path]
    reference = config.reference or own.reference or offered[0]
    if reference not in offered:
        raise UserError(
            f"guidance.reference={reference!r} does not exist on guidance.trajectory={path}; choose"
            f" one of {', '.join(offered)}"
        )
    recipe = metadata.get("recipe", {})
    schedule = _first(config.t_schedule, recipe.get("t_schedule"), LUCID_T_SCHEDULE)
    cfg_scale = _first(config.cfg_scale, own.cfg_scale)
    M = _first(config.M, recipe.get("M"), 80 if config.prompts.perp_neg else 200)
    negative = config.prompts.negative
    if negative is None:
        negative = default_negative(metadata, needed="eps_neg" in needs)
    try:
        filled: dict[str, Any] = {
            "M": M if "M" in needs else config.M,
            "cfg_scale": cfg_scale if "cfg_scale" in needs else config.cfg_scale,
            "weighting": config.weighting or own.weighting,
            "t_schedule": tuple(
                (float(at), float(low), float(high)) for at, low, high in schedule
            ),  # JSON has integers
            "trajectory": path,
            "reference": reference if "eps_ref" in needs else config.reference,
            "prompts": replace(config.prompts, negative=negative),
        }
        return Guidance(**(vars(config) | filled))
    except ValidationError as error:  # the config was valid; what the prior says may not be
        first = error.errors()[0]
        raise UserError(
            f"the prior's recipe has {first['loc'][0]}={first['input']}: {first['msg']}"
        ) from error


def check_groups(config: Guidance, group: int) -> None:
    """Refuse settings that would tear groups of views apart, which the prior predicts together.

    Args:
        group: views of a group (`prior.base.views_per_group`).

    Raises:
        UserError: names the key.
    """
    if group == 1:
        return
    if config.t_per_view and config.trajectory == "noise":
        raise UserError(
            f"this prior predicts {group} views together, at one t: set guidance.t_per_view=false"
            " (and viewpoints.azimuths=orthogonal), or use the preset multiview"
        )
    if config.prompts.perp_neg:
        raise UserError(
            f"guidance.prompts.perp_neg asks about single views, and this prior predicts {group}"
            " together and knows the sides by their cameras: set guidance.prompts.perp_neg=false"
        )
    passes = config.views_per_pass
    # The critic learns from that many views at a time; predictions come in twice as many.
    least = group if config.reference == "critic" else -(-group // 2)
    if passes is not None and passes < least:
        raise UserError(
            f"guidance.views_per_pass={passes} would tear apart the {group} views that this prior"
            f" predicts together: set guidance.views_per_pass={least} or more, or leave it out"
        )


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
        call = _Predictor(self.prior, most)
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
        call: "_Predictor",
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
        self, call: "_Predictor", x_t: Tensor, t: Tensor, views: ViewBatch
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


class _Predictor:
    """The prior's noise prediction, at most `most` images at a time, with a count of what it
    cost.

    Roles follow one another, each with all of its views in order, so that a prior's groups of views
    are consecutive rows; they are never split."""

    def __init__(self, prior: DiffusionPrior, most: int | None) -> None:
        self.prior, self.most, self.images = prior, most, 0

    def __call__(self, x_t: Tensor, t: Tensor, index: list[int], condition: Condition) -> Tensor:
        """Predict for the views `index` (with repetitions), one row of `condition` each."""
        self.images += len(index)
        most = rows_at_once(self.most, len(index), views_per_group(self.prior))
        batches = to_device(torch.tensor(index), x_t.device).split(most)
        parts = []
        for where, some in zip(batches, condition.split(most), strict=True):
            with record_function("gs_ssd.unet"):
                parts.append(self.prior.predict_noise(x_t[where], t[where], some))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def alone(self, condition: Condition) -> trajectory.Predict:
        """One prompt, for an inversion."""
        views = [*range(len(condition))]

        def predict(x: Tensor, u: int) -> Tensor:
            return self(x, torch.full((len(x),), u, device=x.device), views, condition)

        return predict

    def guided(self, first: Condition, second: Condition, scale: float) -> trajectory.Predict:
        """first + scale (second - first), both in one call, for an inversion."""
        views = [*range(len(first))] * 2
        both = Condition.cat([first, second])

        def predict(x: Tensor, u: int) -> Tensor:
            a, b = self(x, torch.full((len(x),), u, device=x.device), views, both).chunk(2)
            return guided(a, b - a, scale)

        return predict


def t_range(schedule: Sequence[Sequence[float]], progress: float) -> tuple[float, float]:
    """(lowest, highest) t as shares of 1000, at this share of the run."""
    low, high = (
        anneal.piecewise(progress, [(knot[0], knot[end]) for knot in schedule]) for end in (1, 2)
    )
    return low, high


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
