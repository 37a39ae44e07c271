"""What the pipeline asks of a 2D diffusion model, and nothing more.

Behind this door a model may be a mixture of Gaussians or Stable Diffusion; above it everything is
noise prediction (epsilon) on latents. A prior knows nothing of 3D, of estimators or of
view-dependent prompts.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.prior.condition import Condition


class BodyPicture(NamedTuple):
    """A picture of a posed body that a prior is told the pose by."""

    kind: str
    """openpose (a skeleton, rgb in 0..1) or regions (shares of `outfit.REGIONS`)."""
    size: int
    """Pixels a side."""


@runtime_checkable
class DiffusionPrior(Protocol):
    """A frozen text-conditioned latent diffusion model."""

    @property
    def image_size(self) -> int:
        """Pixels a side; `encode` resizes what comes in another size."""
        ...

    @property
    def alphas_cumprod(self) -> Float[Tensor, " T"]:
        """abar of the 1000 timesteps, on `device`."""
        ...

    @property
    def device(self) -> torch.device:
        """Where everything lives."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the noise prediction; latents above the door are float32 (or float64)."""
        ...

    @property
    def uses_depth(self) -> bool:
        """Whether `predict_noise` wants the rendered depth (a depth ControlNet is loaded)."""
        ...

    @property
    def uses_cameras(self) -> bool:
        """Whether `predict_noise` wants the cameras that see the pictures."""
        ...

    @property
    def body_picture(self) -> BodyPicture | None:
        """What `predict_noise` wants to see of a body's pose (`Condition.image`); None: nothing."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """What the model says of itself (`gs_ssd.json`): kinds, colors, views, recipe.

        Empty for Stable Diffusion."""
        ...

    def embed(self, prompts: list[str]) -> Float[Tensor, "p l d"]:
        """Text embeddings of the prompts; may be mixed linearly."""
        ...

    def overflow(self, prompt: str) -> str:
        """The end of the prompt that the text encoder cannot read; empty where all of it fits."""
        ...

    def release_text_encoder(self) -> None:
        """Free what only `embed` and `overflow` need."""
        ...

    def encode(
        self, rgb: Float[Tensor, "b 3 H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Latents of pictures in 0..1, with gradient; the posterior's mean, or a sample where a
        generator is given."""
        ...

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pictures in 0..1, without gradient."""
        ...

    def predict_noise(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """eps(x_t, t, y), without gradient, in the dtype of `x_t`."""
        ...


@runtime_checkable
class TrainableCopy(Protocol):
    """A copy of a prior's noise prediction that can learn while the prior itself stays as it is
    (VSD's critic)."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained, in a fixed order."""
        ...

    def predict(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """As `predict_noise`, with gradient towards the parameters."""
        ...


@runtime_checkable
class TrainablePrior(DiffusionPrior, Protocol):
    """A prior that offers such a copy."""

    def trainable_copy(self, rank: int) -> TrainableCopy:
        """A copy that starts out equal to the prior; `rank` bounds its size where it is a LoRA."""
        ...


@runtime_checkable
class ImaginesShapes(Protocol):
    """A prior that knows what a sentence's object looks like in space."""

    def imagine(
        self, text: str, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Points on its surface, world axes and units, upright and facing +y, and their colours in
        0..1, on the CPU.

        None where it has nothing in mind.
        """
        ...


@runtime_checkable
class VariesProportions(Protocol):
    """A prior whose objects can have other proportions than the mean of their kind."""

    def with_proportions(self, numbers: Float[Tensor, "4"]) -> DiffusionPrior:
        """The same prior with other objects in mind; zeros are the mean shape, the world's own
        objects differ as N(0, 1) does (`gs_ssd.prior.proportions`)."""
        ...


@runtime_checkable
class PredictsGroups(Protocol):
    """A prior that predicts the views of a group together.

    Its rows come as whole groups of `views_per_group` consecutive views: azimuths evenly around the
    object, one elevation, distance, field of view and timestep."""

    @property
    def views_per_group(self) -> int:
        """Views of a group, 2 or more."""
        ...


def views_per_group(prior: DiffusionPrior) -> int:
    """How many consecutive rows a prior must see together; 1: each row by itself."""
    return prior.views_per_group if isinstance(prior, PredictsGroups) else 1


def rows_at_once(most: int | None, rows: int, group: int) -> int:
    """How many of `rows` rows one call may have: `most`, or as many fewer as keep groups whole."""
    if most is None:
        return rows
    return max(most - most % group, group)
