"""Density and colour as functions of the place alone: a hash grid, and two perceptrons without
biases."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gs_ssd import memory
from gs_ssd.assets.nerf.config import FinishConfig, NerfConfig, WarmStartConfig
from gs_ssd.errors import UserError
from gs_ssd.native import native

TABLES = "tables"
NETWORKS = ("density_in", "density_out", "color_in", "color_out")
PARAMETERS = (TABLES, *NETWORKS)
PLACES_AT_ONCE = 1 << 17  #: that a field is asked about, where there may be millions
COPIES = 4  #: of the tables: themselves, their gradient, two moments of AdamW


class Field:
    """sigma = softplus(MLP(enc(x)) + blob(x)), rgb = sigmoid(MLP(enc(x))); places are in units of
    the box, 0..1.

    `parameters` are leaves by name: `tables` [E,2], `density_in` [H,2L], `density_out` [1,H],
    `color_in` [H,2L], `color_out` [3,H].

    Raises:
        UserError: tables that the memory cannot hold, or levels that are too fine; names the key.
    """

    def __init__(self, config: NerfConfig, device: torch.device) -> None:
        self.library = native("hash_grid_encoding")
        self.config, self.device = config, device
        try:
            self.grid = self.library.HashGrid(
                config.levels, config.log2_entries, config.base_resolution, config.level_scale
            )
        except ValueError as error:
            raise UserError(
                f"nerf.levels, nerf.base_resolution and nerf.level_scale: {error}"
            ) from error
        self._refuse_more_than_there_is()
        self.levels_on = self.grid.levels
        self.parameters: dict[str, Tensor] = {}

    def _refuse_more_than_there_is(self) -> None:
        """Systems promise memory that they do not have, and end the process that uses it."""
        tables, left = 8 * self.grid.num_entries, memory.available(self.device)
        if left is not None and COPIES * tables > left:
            raise UserError(
                f"the tables of nerf.log2_entries={self.config.log2_entries} and nerf.levels="
                f"{self.config.levels} take {tables / 2**30:.1f} GiB, with their gradient and"
                f" AdamW's two moments {COPIES * tables / 2**30:.1f}, and {left / 2**30:.1f} are"
                " free; lower one of the two"
            )

    def initialize(self, generator: torch.Generator) -> None:
        """Tables within 1e-4 of 0, weights within 1 / sqrt(inputs): the field is its blob, and
        grey."""
        hidden, width = self.config.hidden, self.grid.num_features
        shapes = {
            TABLES: ((self.grid.num_entries, 2), 1e-4),
            "density_in": ((hidden, width), 1 / math.sqrt(width)),
            "density_out": ((1, hidden), 1 / math.sqrt(hidden)),
            "color_in": ((hidden, width), 1 / math.sqrt(width)),
            "color_out": ((3, hidden), 1 / math.sqrt(hidden)),
        }
        made = {
            name: bound * (2 * torch.rand(s, generator=generator) - 1)
            for name, (s, bound) in shapes.items()
        }
        self.load(made)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take these as the parameters.

        Raises:
            UserError: they are not a field of this config.
        """
        expected = (self.grid.num_entries, 2)
        if set(tensors) != set(PARAMETERS) or tensors[TABLES].shape != expected:
            raise UserError(
                "the checkpoint's field has other tables than the config asks for; restore nerf.*"
                " as it was"
            )
        self.parameters = {
            name: tensors[name].detach().to(self.device).clone() for name in PARAMETERS
        }
        for tensor in self.parameters.values():
            tensor.requires_grad_()

    def features(self, places: Float[Tensor, "s 3"]) -> Float[Tensor, "s f"]:
        """What both perceptrons see."""
        return self.library.encode(places, self.parameters[TABLES], self.grid, self.levels_on)

    def density(
        self, places: Float[Tensor, "s 3"], features: Float[Tensor, "s f"] | None = None
    ) -> Float[Tensor, " s"]:
        """Per world unit, not negative."""
        features = self.features(places) if features is None else features
        return self.to_density(places, self.library.mlp(features, *self._head("density")))

    def color(self, features: Float[Tensor, "s f"]) -> Float[Tensor, "s 3"]:
        """Within 0..1, the same from everywhere."""
        return self.library.mlp(features, *self._head("color")).sigmoid()

    def density_and_color(
        self, places: Float[Tensor, "s 3"], features: Float[Tensor, "s f"]
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, "s 3"]]:
        """Both, faster than one by one: the perceptrons have the same inputs."""
        raw, color = self.library.mlps(features, (self._head("density"), self._head("color")))
        return self.to_density(places, raw), color.sigmoid()

    def to_density(
        self, places: Float[Tensor, "s 3"], raw: Float[Tensor, "s 1"]
    ) -> Float[Tensor, " s"]:
        """Of what the perceptron gives: softplus, with the blob as a bias."""
        config = self.config
        # The 1e-12 keeps the slope finite at the very middle.
        distance = ((2 * places - 1).square().sum(dim=1) + 1e-12).sqrt() * config.radius
        blob = config.blob_density * (1 - distance / config.blob_radius)
        return functional.softplus(raw[:, 0] + blob)

    def _head(self, name: str) -> tuple[Tensor, Tensor]:
        return self.parameters[f"{name}_in"], self.parameters[f"{name}_out"]

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW with the host's rates; its groups have the names that `groups` gives them."""
        config, fused = self.config, self.device.type in ("cpu", "cuda")
        decay = config.weight_decay
        return torch.optim.AdamW(
            self.groups(config), betas=(0.9, 0.99), eps=1e-15, weight_decay=decay, fused=fused
        )

    def groups(self, config: NerfConfig | WarmStartConfig | FinishConfig) -> list[dict[str, Any]]:
        """The parameters as an optimizer takes them; a group's `name` is that of its rate in the
        config, without `_rate`."""
        p = self.parameters
        networks = [p[name] for name in NETWORKS]
        return [
            {"name": "table", "params": [p[TABLES]], "lr": config.table_rate},
            {"name": "network", "params": networks, "lr": config.network_rate},
        ]
