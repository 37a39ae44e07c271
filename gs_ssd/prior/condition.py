"""What a prior is told about the latents whose noise it predicts: text, and what else it listens
to."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.scene.camera import Cameras


@dataclass(frozen=True)
class Condition:
    """The conditions of B latents, row by row.

    Whatever a prior does not use (`uses_cameras`, `uses_depth`) may be absent and is ignored.
    """

    text: Float[Tensor, "b l d"]
    """Embeddings of the prompts (`DiffusionPrior.embed`)."""
    cameras: Cameras | None = None
    """The B cameras that see the pictures, in world axes (z up, front +y), on the device of
    `text`."""
    depth: Float[Tensor, "b 1 H W"] | None = None
    """0 far .. 1 near."""
    image: Float[Tensor, "b c H W"] | None = None
    """What a posed body looks like to the model (`prior.base.BodyPicture`), 0..1."""

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: slice | Tensor) -> "Condition":
        """The conditions of some rows, a slice or a tensor of indices on the device of `text`."""
        cameras, depth, image = (None if part is None else part[rows] for part in self._parts()[1:])
        return Condition(self.text[rows], cameras, depth, image)

    def with_text(self, text: Float[Tensor, "... l d"]) -> "Condition":
        """The same but for the text; one embedding [l, d] stands for every row."""
        return dataclasses.replace(self, text=text.expand_as(self.text))

    def split(self, size: int) -> list["Condition"]:
        """Consecutive parts of at most `size` rows."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    @staticmethod
    def cat(parts: Sequence["Condition"]) -> "Condition":
        """The rows of all parts in order; each part must have the same fields."""
        text, cameras, depth, image = zip(*(part._parts() for part in parts), strict=True)
        return Condition(
            torch.cat(text),
            Cameras.cat(cameras) if _all_there(cameras) else None,
            torch.cat(depth) if _all_there(depth) else None,
            torch.cat(image) if _all_there(image) else None,
        )

    def _parts(self) -> tuple[Any, ...]:
        return self.text, self.cameras, self.depth, self.image


def _all_there(values: Sequence[Any]) -> bool:
    absent = [value is None for value in values]
    if any(absent) and not all(absent):
        raise ValueError("some of the conditions lack a field that others have")
    return not any(absent)
