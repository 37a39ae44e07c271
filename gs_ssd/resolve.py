"""What an experiment leaves open (`null`) and the prior, the estimator or the cameras decide is
filled here, once.

What the estimator does not ask for stays open. The result is what a run is made with:
`environment.json` keeps it.
"""

import dataclasses
import math

from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.guidance import config as guidance_config
from gs_ssd.guidance.estimators import Estimator
from gs_ssd.prior import DiffusionPrior, PriorConfig
from gs_ssd.prior.base import views_per_group
from gs_ssd.scene import viewpoints
from gs_ssd.scene.viewpoints import Viewpoints


@dataclasses.dataclass(frozen=True)
class Resolved:
    """An experiment with nothing open that the run needs."""

    experiment: ExperimentConfig
    viewpoints: Viewpoints
    """The experiment's, as the type that has no open ranges."""
    polar_rad: tuple[float, ...]
    radius: float
    fov_y_rad: float
    """Where the cameras of pictures and videos stand: the config's, else the middle of the first
    step's ranges."""


def resolve(
    config: ExperimentConfig, prior: DiffusionPrior, estimator: Estimator | None = None
) -> Resolved:
    """Fill what is open, from the settings of `estimator` (else of the one that the config names)
    and from the prior.

    Raises:
        UserError: settings that do not go with this prior or estimator; names the keys.
    """
    _check_variety(config.prior, prior)
    views = viewpoints.resolve(config.viewpoints, prior.metadata, prior.image_size)
    _check_groups(views, views_per_group(prior))
    polar, radius, fov = viewpoints.centre(views)
    output = config.output
    rings = (
        (polar,)
        if output.polar_deg is None
        else tuple(math.radians(angle) for angle in output.polar_deg)
    )
    radius = radius if output.radius is None else output.radius
    fov = fov if output.fov_y_deg is None else math.radians(output.fov_y_deg)
    filled = dataclasses.replace(
        config,
        prior=dataclasses.replace(
            config.prior,
            dtype=config.prior.dtype or str(prior.dtype).removeprefix("torch."),
            image_size=config.prior.image_size or prior.image_size,
        ),
        guidance=guidance_config.resolve(config.guidance, prior.metadata, estimator),
        viewpoints=views,
        output=dataclasses.replace(
            output,
            polar_deg=output.polar_deg or tuple(_degrees(angle) for angle in rings),
            radius=radius,
            fov_y_deg=output.fov_y_deg or _degrees(fov),
        ),
    )
    return Resolved(filled, views, rings, radius, fov)


def _check_groups(views: Viewpoints, group: int) -> None:
    """A prior that predicts views together needs cameras that stand as it was taught."""
    if group == 1:
        return
    if views.azimuths != "orthogonal":
        raise UserError(
            f"this prior predicts {group} views a quarter turn apart together: set"
            " viewpoints.azimuths=orthogonal (and guidance.t_per_view=false), or use the preset"
            " multiview"
        )
    if views.num_views % group:
        raise UserError(
            f"this prior predicts views in groups of {group}, and"
            f" viewpoints.num_views={views.num_views} is no multiple of it"
        )


def _check_variety(config: PriorConfig, prior: DiffusionPrior) -> None:
    """Other proportions need a prior that has some in mind."""
    if config.variety and "volume" not in prior.metadata:
        raise UserError(
            f"prior.variety={config.variety:g} has no effect on prior.model={config.model}, which"
            " has no shape of its own in mind; leave prior.variety out, or use prior.model=bundled"
        )


def _degrees(angle_rad: float) -> float:
    return round(math.degrees(angle_rad), 6)
