"""What a representation of the object must offer to be optimized.

Trainer, checkpoints and views know no more.

A member lives in a room of its own beside this file (`gs_ssd/assets/splat/`) and has a row in
`assets/choice.py`.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.maths import anneal
from gs_ssd.render.output import RenderOutput
from gs_ssd.render.regularizers import Term
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.viewpoints import Ranges

if TYPE_CHECKING:
    from gs_ssd.export.splats import Splats


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """Step `index` (from 0) of `num_steps`, with the random numbers that belong to it.

    `generator` lives on the CPU and is made from (seed, index), so a resumed run draws the same
    numbers.
    """

    index: int
    num_steps: int
    generator: torch.Generator

    @property
    def progress(self) -> float:
        """Share of the run that lies behind: 0 in the first step, a step short of 1 in the last."""
        return anneal.progress(self.index, self.num_steps)


@runtime_checkable
class Renderable(Protocol):
    """Something to take pictures of: an asset under training, or a splat that was read from a
    file."""

    @property
    def device(self) -> torch.device:
        """Where cameras and backgrounds must be."""
        ...

    def render(self, cameras: Cameras, background: Float[Tensor, "v 3"]) -> RenderOutput:
        """Pictures for people: V views of exactly the cameras' size."""
        ...


class Asset(abc.ABC):
    """One representation under training. A step calls, in this order:

        begin_step -> render(generator given) -> regularizers -> backward -> after_backward ->
        optimizers -> after_step

    A step whose gradient is not finite ends after the backward: its hooks and optimizers are not
    called. The asset holds all of its state; whatever changes from step to step is in `state_dict`.
    """

    kind: ClassVar[str]
    """Names the representation in checkpoints and messages."""
    files: ClassVar[tuple[str, ...]] = ()
    """Names (or glob patterns) of what `export` writes, so that another run in the same folder can
    delete it."""

    body_pictures: ClassVar[tuple[str, ...]] = ()
    """Kinds of pictures of a posed body that it can show a prior (`prior.base.BodyPicture`)."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the parameters are."""

    @abc.abstractmethod
    def initialize(self, generator: torch.Generator) -> None:
        """Make the first parameters. A resumed run calls `load_state_dict` instead.

        Raises:
            UserError: a file or model that it starts from is not there.
        """

    @property
    @abc.abstractmethod
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """All optimizers; their groups hold all trained tensors.

        Read again in every step, as they may be replaced."""

    def begin_step(self, step: TrainingStep) -> None:  # noqa: B027 -- an option, not a duty
        """Prepare: learning rates, a resolution, a pose."""

    @abc.abstractmethod
    def render(
        self,
        cameras: Cameras,
        background: Float[Tensor, "v 3"],
        generator: torch.Generator | None = None,
    ) -> RenderOutput:
        """V views on one background colour per view (0..1), with gradient where grad mode is on.

        Args:
            generator: given in training steps alone. There the asset may vary itself (noisy scales,
                jittered rays) and may render at a size of its own: the prior resizes. Without it
                the pictures are for people: always the same, and of the cameras' size.
        """

    def body_picture(self, kind: str, cameras: Cameras, size: int) -> Float[Tensor, "v c h w"]:
        """What a prior is shown of the pose that this step's pictures are taken in, on the CPU.

        Args:
            kind: one of `body_pictures`.
            cameras: of the pictures, on the CPU.
            size: pixels a side.
        """
        raise NotImplementedError(f"{self.kind} has no picture {kind} of {len(cameras)} x {size}")

    def towards(self, cameras: Cameras) -> Cameras:
        """The same cameras, their azimuths told from where the object faces: its view prompts
        follow it."""
        return cameras

    def regularizers(
        self,
        output: RenderOutput,  # noqa: ARG002
        cameras: Cameras,  # noqa: ARG002
        step: TrainingStep,  # noqa: ARG002
    ) -> Sequence[Term]:
        """Terms beside those on the pictures, which every asset gets (`render/regularizers.py`)."""
        return ()

    def after_backward(self, output: RenderOutput, step: TrainingStep) -> None:  # noqa: B027 -- as above
        """Read or change the gradients before the optimizers move: statistics of densification,
        clipping."""

    def after_step(self, step: TrainingStep) -> Mapping[str, int | float | Tensor]:  # noqa: ARG002
        """Change what the optimizers left: bounds, densification, an occupancy grid.

        Returns what is worth logging.

        Raises:
            UserError: nothing is left to optimize.
        """
        return {}

    def finish(self, ranges: Ranges, generator: torch.Generator) -> bool:  # noqa: ARG002
        """The last touch, once, after the last step and without the prior; False if there was
        nothing to do.

        Args:
            ranges: where the cameras of the training stood.
        """
        return False

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Parameters, optimizers and statistics: nested dicts of tensors, numbers and text, shared
        and not copied."""

    @abc.abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, from tensors on the CPU, into an asset that need not be
        initialized.

        Raises:
            UserError: it is not the state of such an asset.
        """

    def counts(self) -> dict[str, int]:
        """How large it is now, for logs and the progress bar; keys read `num_splats`."""
        return {}

    def export(self, folder: Path, *, title: str) -> list[Path]:  # noqa: ARG002
        """Write the files of this representation into `folder`, each whole or not at all.

        Returns their paths."""
        return []

    def splats(self) -> "Splats | None":
        """As Gaussian splats, for viewers and exporters that show nothing else; None if that cannot
        be."""
        return None
