"""The noise schedule of a saved pipeline."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from gs_ssd.errors import UserError


def ddim(config: Mapping[str, Any], where: str) -> Any:
    """DDIM with the betas of a scheduler's config, whichever class wrote it.

    Raises:
        UserError: a scheduler without betas (flow matching, EDM), of which DDIM would take its own
            defaults instead.
    """
    name = str(config.get("_class_name", "DDIMScheduler"))
    kind = getattr(diffusers, name, None)
    known = kind is not None and "beta_schedule" in inspect.signature(kind.__init__).parameters
    if config.get("use_flow_sigmas") or not (known or "beta_schedule" in config):
        raise UserError(
            f"{where}: {name} has no beta schedule (flow matching and EDM models are not"
            " supported); use a model of the Stable Diffusion 1, 2 or XL family with its own"
            " scheduler"
        )
    scheduler: Any = diffusers.DDIMScheduler
    return scheduler.from_config(config)
