"""What guidance may be told, and what it becomes once the estimator and the prior have spoken.

`DistillConfig` is what a user writes; `resolve` fills what it leaves open.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationError

from gs_ssd.bounds import IN_ORDER, Bounds, Positive, Share, choice, settings
from gs_ssd.errors import UserError
from gs_ssd.guidance import trajectory
from gs_ssd.guidance.estimators import ESTIMATORS, SETTINGS, Estimator, Setting
from gs_ssd.guidance.prompts import PromptConfig, default_negative
from gs_ssd.guidance.trajectory import TrajectoryConfig
from gs_ssd.guidance.vsd import VsdConfig
from gs_ssd.maths import anneal
from gs_ssd.maths.diffusion import NUM_TIMESTEPS, WEIGHTINGS

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


def t_range(schedule: Sequence[Sequence[float]], progress: float) -> tuple[float, float]:
    """(lowest, highest) t as shares of 1000, at this share of the run."""
    low, high = (
        anneal.piecewise(progress, [(knot[0], knot[end]) for knot in schedule]) for end in (1, 2)
    )
    return low, high


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
