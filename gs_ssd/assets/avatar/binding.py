"""What holds splats to a body: each is bound to one point of the surface and moves as that does."""

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from gs_ssd.body.body import Body
from gs_ssd.body.surface import Surface


class Binding:
    """The surface of a body in its rest pose as something to hold on to.

    Args:
        surface: of `body`, on the CPU.
        device: where the splats are.
    """

    def __init__(self, body: Body, surface: Surface, device: torch.device) -> None:
        self.points = surface.points.to(device)
        self.weights = surface.weights.to(device)
        self._bones = surface.bones.to(device)
        self._adjacent = body.adjacent().to(device)
        self._tree = KDTree(surface.points.numpy())

    def __len__(self) -> int:
        return len(self.points)

    def nearest(self, means: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """The point of the surface nearest to each of `means`, in the rest pose."""
        _, index = self._tree.query(means.detach().cpu().numpy())
        return torch.from_numpy(index).long().to(means.device)

    def held(
        self, means: Float[Tensor, "n 3"], home: Int[Tensor, " n"], reach: float
    ) -> Float[Tensor, "n 3"]:
        """`means`, those beyond `reach` of their points brought back to that distance."""
        offset = means - self.points[home]
        distance = offset.norm(dim=1, keepdim=True)
        return torch.where(distance > reach, self.points[home] + offset * (reach / distance), means)

    def rebound(
        self, means: Float[Tensor, "n 3"], home: Int[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """The nearest points, and who keeps its bone: it or a neighbour of it carries the new one.

        A splat of a forearm may slide to the upper arm; to the hip that it passes by it may not.
        """
        near = self.nearest(means)
        return near, self._adjacent[self._bones[home], self._bones[near]]
