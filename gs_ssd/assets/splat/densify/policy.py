"""What a densification policy may do, and the one that does nothing."""

from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.splat.densify.surgery import TrainedSplat


class Policy:
    """Never changes the number of Gaussians; others override what they need.

    A policy holds its config alone. What it learns lives in `splat.statistics`, and so in the
    checkpoint.
    """

    def begin(self, splat: TrainedSplat) -> None:
        """Add statistics, zeroed, unless they are there already (a resumed run)."""

    def observe(
        self,
        splat: TrainedSplat,
        screen_gradient: Float[Tensor, "v n 2"],
        visible: Bool[Tensor, "v n"],
    ) -> None:
        """Take in all V views of a step: NDC gradients of the projected means, and who was seen."""

    def refine(self, splat: TrainedSplat, step: TrainingStep) -> dict[str, int]:  # noqa: ARG002
        """Operate after the optimizer's step; returns counts of what was done (empty: nothing was
        due)."""
        return {}
