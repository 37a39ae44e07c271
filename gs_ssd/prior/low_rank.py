"""Weights as a difference of low rank from another model's: W + up down, and the vectors'
differences as they are.

So a model that was taught something more costs a tenth of its size (Hu et al. 2021, arXiv
2106.09685).
"""

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

UP, DOWN, CHANGE = ".up", ".down", ".change"


class LowRank(nn.Module):
    """A parametrization of a weight `[o, ...]`: the weight plus a product that starts at zero."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = len(weight), weight[0].numel()
        down = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
        self.down, self.up = nn.Parameter(down), nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def attach(model: nn.Module, rank: int, seed: int = 0) -> list[nn.Parameter]:
    """Make a frozen model trainable: a low rank for every matrix and kernel, vectors themselves.
    Returns what trains.
    """
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    trained: list[nn.Parameter] = []
    for _, module in list(_layers(model)):
        part = LowRank(module.weight, rank, generator)
        parametrize.register_parametrization(module, "weight", part)
        trained += [part.up, part.down]
    vectors = [
        x for name, x in model.named_parameters() if x.dim() == 1 and "parametrizations" not in name
    ]
    for vector in vectors:
        vector.requires_grad_()
    return [*trained, *vectors]


def extract(model: nn.Module, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `attach`'s training made of a model whose own weights are `base`, by the names of its
    weights.
    """
    found: dict[str, Tensor] = {}
    for name, part in model.named_modules():
        if isinstance(part, LowRank):
            weight = name.replace("parametrizations.", "").removesuffix(".0")
            found[weight + UP] = part.up.detach().clone()
            found[weight + DOWN] = part.down.detach().clone()
    for name, vector in model.named_parameters():
        if vector.dim() == 1 and name in base:
            found[f"{name}{CHANGE}"] = vector.detach() - base[name]
    return found


@torch.no_grad()
def merge(model: nn.Module, difference: Mapping[str, Float[Tensor, "..."]]) -> None:
    """Add a difference to a model's weights, in place.

    Raises:
        KeyError, RuntimeError: it is the difference of another model.
    """
    weights = dict(model.named_parameters())
    for name, value in difference.items():
        if name.endswith(CHANGE):
            vector = weights[name.removesuffix(CHANGE)]
            vector += value.to(vector)
        elif name.endswith(UP):
            weight = weights[name.removesuffix(UP)]
            down = difference[name.removesuffix(UP) + DOWN]
            weight += (value.float() @ down.float()).view_as(weight).to(weight)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module
