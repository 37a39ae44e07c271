"""Floor 2: what a densification policy may do, and the one that does nothing."""

from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.densify.surgery import Moment, Patient


class Policy:
    """Never changes the number of Gaussians; others override what they need.

    A policy holds its config alone. What it learns lives in `patient.statistics`, and so in the checkpoint.
    """

    def begin(self, patient: Patient) -> None:
        """Add statistics, zeroed, unless they are there already (a resumed run)."""

    def observe(self, patient: Patient, screen_gradient: Float[Tensor, "v n 2"], visible: Bool[Tensor, "v n"]) -> None:
        """Take in all V views of a step: NDC gradients of the projected means, and who was seen."""

    def refine(self, patient: Patient, moment: Moment) -> dict[str, int]:  # noqa: ARG002
        """Operate after the optimizer's step; returns counts of what was done (empty: nothing was due)."""
        return {}
