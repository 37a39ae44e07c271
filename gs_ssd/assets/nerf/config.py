"""Every knob of a radiance field.

The defaults are the host's (threestudio at 28d9d80); docs/nerf.md has the table."""

import dataclasses
from typing import Annotated

from gs_ssd.bounds import Bounds, Knots, NonNegative, Positive, Rate, Share, Size, settings
from gs_ssd.errors import UserError

Level = Annotated[float, Bounds(0, 32)]
Pixels = Annotated[float, Bounds(8, 2048)]


@settings
class ConversionConfig:
    """How a field becomes splats; ours, as no host has it."""

    spacing: Annotated[float, Bounds(1e-3, 0.5)] = 1 / 48
    """One disc a cube of this side, as a share of half the box."""
    views: Annotated[int, Bounds(4, 1000)] = 24
    image_size: Size = 128
    steps: Annotated[int, Bounds(0, 100_000)] = 100
    """Of the fit to the field's own pictures; 0: discs as they are."""
    rate: Rate = 0.01
    """Adam's, at the beginning; positions take a tenth of it. It falls to a tenth."""


@settings
class WarmStartConfig:
    """How a field takes the shape that `initialize` names: fitted to pictures of it; ours."""

    views: Annotated[int, Bounds(4, 1000)] = 24
    image_size: Size = 64
    steps: Annotated[int, Bounds(1, 100_000)] = 150
    table_rate: Rate = 0.02
    network_rate: Rate = 0.003


@settings
class FinishConfig:
    """How fog becomes a surface at the end of the last step, without the prior; ours."""

    steps: Annotated[int, Bounds(0, 100_000)] = 0
    """0: fog stays."""
    views: Annotated[int, Bounds(4, 1000)] = 24
    image_size: Size = 256
    """Of the pictures that are made harder. No outline becomes sharper than their pixels."""
    rays: Annotated[int, Bounds(64, 1 << 24)] = 16384
    """A step; most go to outlines and fog."""
    edge: tuple[Share, Share] = (0.5, 0.6)
    """Alphas up to the first become 0, from the second on 1, smoothly in between."""
    table_rate: Rate = 0.05
    network_rate: Rate = 0.0075
    """Both at the beginning; they fall to a fifth."""

    def __post_init__(self) -> None:
        low, high = self.edge
        if not 0 < low < high < 1:
            raise UserError(f"nerf.finish.edge is [{low:g}, {high:g}]; choose 0 < low < high < 1")


@settings
class NerfConfig:
    """Laws are knots [share of the run, value]; the host's steps are out of its 15 000."""

    levels: Annotated[int, Bounds(1, 32)] = 16
    log2_entries: Annotated[int, Bounds(3, 26)] = 19
    """Of each level's table: 2^19 entries of two numbers."""
    base_resolution: Annotated[int, Bounds(1, 1024)] = 16
    level_scale: Annotated[float, Bounds(1, 4)] = 1.447269237440378
    levels_on: Knots[Level] = ((2 / 15, 8.0), (0.4, 16.0))
    """How many of the coarsest levels are active, rounded down: 8, and one more every 500 steps
    from step 2000 on."""
    hidden: Annotated[int, Bounds(8, 128)] = 64
    """Width of the two perceptrons, a multiple of 8."""

    radius: Positive = 1.0
    """Half a side of the box that holds the object, world units."""
    blob_density: NonNegative = 10.0
    blob_radius: Positive = 0.5
    """The first shape: blob_density (1 - |x| / blob_radius) is added to the density before its
    softplus. At 0 there is none: the box begins filled with even fog, softplus(0) = .69."""

    cells: Annotated[int, Bounds(4, 256)] = 32
    """A side, of the grid that remembers where something is."""
    occupancy_every: Annotated[int, Bounds(1, 1_000_000)] = 16
    """Steps between two looks into every cell."""
    steps: Annotated[int, Bounds(8, 4096)] = 512
    """Along the box's diagonal, of a ray."""
    least_alpha: Share = 0.01
    """A step that stops less of the light is left out, and a cell whose density is never more is
    empty."""
    least_light: Share = 1e-4
    """A ray ends where less of the light is left."""
    resolution: Knots[Pixels] = ((0.0, 64.0), (2 / 3, 64.0), (2 / 3, 512.0))
    """Pixels a side of the training's pictures: 64, then 512 for the last third."""

    table_rate: Rate = 0.01
    network_rate: Rate = 0.001
    background_rate: Rate = 0.001
    last_rate: Annotated[float, Bounds(0, 1, above=True)] = 1.0
    """What is left of all three rates at the end of the run, as a share; they fall exponentially.
    Guidance is as noisy at the end as at the beginning, and the length of Adam's steps is the rate,
    whatever the gradient: a field comes to rest only where the rate falls. 1: constant, as the
    host's."""
    learned_background: Share = 0.0
    """Share of the training's views that are drawn on a learned background, a small network of the
    direction; the others are on the plain colour that `augment` draws. The host's is .5 or 1."""
    weight_decay: Share = 0.01
    """AdamW's (0: plain Adam), betas .9 and .99, eps 1e-15."""

    orientation: Knots[NonNegative] = ((0.0, 10.0), (2 / 3, 1000.0))
    """On normals that face away from the camera: 10, to 1000 at step 10 000 (the paper)."""
    warm_start: WarmStartConfig = dataclasses.field(default_factory=WarmStartConfig)
    """Where `initialize.shape` is not sphere, which is the blob."""
    finish: FinishConfig = dataclasses.field(default_factory=FinishConfig)
    conversion: ConversionConfig = dataclasses.field(default_factory=ConversionConfig)

    def __post_init__(self) -> None:
        if self.hidden % 8:
            raise UserError(f"nerf.hidden={self.hidden} must be a multiple of 8")
