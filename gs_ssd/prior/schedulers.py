"""The noise schedule of a saved pipeline."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from gs_ssd.errors import UserError

NUM_TIMESTEPS = 1000


def ddim(config: Mapping[str, Any], where: str) -> Any:
    """DDIM with the alphas that the class which wrote a scheduler's config makes of it.

    What the config leaves open has that class's defaults, which differ from DDIM's.

    Raises:
        UserError: a scheduler without betas (flow matching, EDM), of which DDIM would take its own
            defaults instead; another number of timesteps than 1000; or impossible alphas.
    """
    name = str(config.get("_class_name", "(no class)"))
    kind: Any = getattr(diffusers, name, None)
    parameters = {} if kind is None else inspect.signature(kind.__init__).parameters
    known = "beta_schedule" in parameters
    if config.get("use_flow_sigmas") or not (known or "beta_schedule" in config):
        raise UserError(
            f"{where}: {name} has no beta schedule (flow matching and EDM models are not"
            " supported); use a model of the Stable Diffusion 1, 2 or XL family with its own"
            " scheduler"
        )
    open_ones = {key: x.default for key, x in parameters.items() if x.default is not x.empty}
    scheduler: Any = diffusers.DDIMScheduler
    scheduler = scheduler.from_config({**open_ones, **config} if known else dict(config))
    if known:  # a class whose schedule may differ from DDIM's in more than its defaults
        own = kind.from_config(dict(config))
        scheduler.alphas_cumprod = getattr(own, "alphas_cumprod", scheduler.alphas_cumprod)
    _check(scheduler.alphas_cumprod, scheduler.betas, where)
    return scheduler


def _check(alphas: Any, betas: Any, where: str) -> None:
    if len(alphas) != NUM_TIMESTEPS:
        raise UserError(
            f"{where}: {len(alphas)} timesteps; models of {NUM_TIMESTEPS} are supported"
        )
    within = all(((x >= 0) & (x <= 1)).all() for x in (alphas, betas))
    if not within or (alphas.diff() > 0).any():
        raise UserError(f"{where}: its betas make no noise schedule; they must lie in 0..1")
