"""One config word picks the densification policy."""

import dataclasses
from typing import Literal

from gs_ssd.assets.splat.densify.adaptive import AdaptiveConfig, AdaptivePolicy
from gs_ssd.assets.splat.densify.mcmc import McmcConfig, McmcPolicy
from gs_ssd.assets.splat.densify.policy import Policy
from gs_ssd.bounds import settings


@settings
class DensifyConfig:
    """`policy` picks; the section of its name configures it."""

    policy: Literal["adaptive", "mcmc", "none"] = "adaptive"
    adaptive: AdaptiveConfig = dataclasses.field(default_factory=AdaptiveConfig)
    mcmc: McmcConfig = dataclasses.field(default_factory=McmcConfig)


def create(config: DensifyConfig) -> Policy:
    """The policy that the config names."""
    if config.policy == "adaptive":
        return AdaptivePolicy(config.adaptive)
    if config.policy == "mcmc":
        return McmcPolicy(config.mcmc)
    return Policy()
