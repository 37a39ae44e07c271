"""Floor 2: what every densification policy offers, and the table that one config word picks from."""

import dataclasses
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.densify.adaptive import AdaptiveConfig, AdaptivePolicy
from gs_ssd.densify.mcmc import McmcConfig, McmcPolicy
from gs_ssd.densify.surgery import Moment, Patient


@runtime_checkable
class Policy(Protocol):
    """Decides when a splat grows, moves and is pruned. State lives in `patient.statistics`, so it is checkpointed."""

    def begin(self, patient: Patient) -> None:
        """Add this policy's statistics, zeroed, unless they are there already (a resumed run)."""

    def observe(self, patient: Patient, screen_gradient: Float[Tensor, "v n 2"], visible: Bool[Tensor, "v n"]) -> None:
        """Take in all V views of a step: NDC gradients of the projected means, and who was seen."""

    def refine(self, patient: Patient, moment: Moment) -> dict[str, int]:
        """Operate after the optimizer's step; returns counts of what was done (empty: nothing was due)."""


class NonePolicy:
    """The number of Gaussians never changes."""

    def begin(self, *_: object) -> None:
        """Nothing to remember."""

    def observe(self, *_: object) -> None:
        """Nothing to learn."""

    def refine(self, *_: object) -> dict[str, int]:
        """Nothing to do."""
        return {}


@dataclasses.dataclass(frozen=True)
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
    return NonePolicy()
