"""What is behind the object where it is learned: a colour of the direction alone."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.maths import harmonics

DEGREE, HIDDEN = 2, 16
"""The host's: nine spherical harmonics ("degree 3" in tiny-cuda-nn's count), two hidden layers."""


class LearnedBackground:
    """rgb = sigmoid(MLP(Y(d))): an environment so smooth that it cannot draw the object.

    `parameters` are leaves by name, matrices without biases: `first` [16,9], `second` [16,16],
    `third` [3,16].
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        bases = harmonics.num_bases(DEGREE)
        self.shapes = {"first": (HIDDEN, bases), "second": (HIDDEN, HIDDEN), "third": (3, HIDDEN)}
        self.parameters: dict[str, Tensor] = {}

    def initialize(self, generator: torch.Generator) -> None:
        """Weights within 1 / sqrt(inputs)."""
        self.load(
            {
                name: (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(shape[1])
                for name, shape in self.shapes.items()
            }
        )

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take these as the parameters.

        Raises:
            UserError: they are not a background's.
        """
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != self.shapes:
            raise UserError(
                "the checkpoint holds no learned background: it was made with"
                " nerf.learned_background=0; restore that"
            )
        self.parameters = {
            name: tensor.detach().to(self.device).clone().requires_grad_()
            for name, tensor in tensors.items()
        }

    def color(self, directions: Float[Tensor, "r 3"]) -> Float[Tensor, "r 3"]:
        """Within 0..1, of unit directions."""
        p = self.parameters
        seen = harmonics.basis(directions, DEGREE)
        return (((seen @ p["first"].T).relu() @ p["second"].T).relu() @ p["third"].T).sigmoid()
