"""Every knob of a radiance field. The defaults are the host's (threestudio at 28d9d80); docs/nerf.md has the table."""

import dataclasses

from gs_ssd.bounds import POSITIVE, SHARE, Bounds, bounded, law

Knots = tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class NerfConfig:
    """Laws are knots [share of the run, value]; the host's steps are out of its 15 000."""

    levels: int = bounded(16, Bounds(1, 32))
    log2_entries: int = bounded(19, Bounds(3, 26))
    """Of each level's table: 2^19 entries of two numbers."""
    base_resolution: int = bounded(16, Bounds(1, 1024))
    level_scale: float = bounded(1.447269237440378, Bounds(1, 4))
    levels_on: Knots = law(((2 / 15, 8.0), (0.4, 16.0)), Bounds(0, 32))
    """How many of the coarsest levels speak, rounded down: 8, and one more every 500 steps from step 2000 on."""
    hidden: int = bounded(64, Bounds(8, 128))
    """Width of the two perceptrons, a multiple of 8."""

    radius: float = bounded(1.0, POSITIVE)
    """Half a side of the box that holds the object, world units."""
    blob_density: float = bounded(10.0, Bounds(0))
    blob_radius: float = bounded(0.5, POSITIVE)
    """The first shape: blob_density (1 - |x| / blob_radius) is added to the density before its softplus."""

    cells: int = bounded(32, Bounds(4, 256))
    """A side, of the grid that remembers where something is."""
    occupancy_every: int = bounded(16, Bounds(1))
    steps: int = bounded(512, Bounds(8, 4096))
    """Along the box's diagonal, of a ray."""
    least_alpha: float = bounded(0.01, SHARE)
    """A step that stops less of the light is left out, and a cell whose density is never more is empty."""
    least_light: float = bounded(1e-4, SHARE)
    """A ray ends where less of the light is left."""
    resolution: Knots = law(((0.0, 64.0), (2 / 3, 64.0), (2 / 3, 512.0)), Bounds(8, 2048))
    """Pixels a side of the training's pictures: 64, then 512 for the last third."""

    table_rate: float = bounded(0.01, POSITIVE)
    network_rate: float = bounded(0.001, POSITIVE)
    weight_decay: float = bounded(0.01, Bounds(0))
    """AdamW's, betas .9 and .99, eps 1e-15."""

    orientation: Knots = law(((0.0, 10.0), (2 / 3, 1000.0)), Bounds(0))
    """On normals that face away from the camera: 10, to 1000 at step 10 000 (the paper)."""
    sparsity: Knots = law(((0.0, 10.0),), Bounds(0))
    """On opacity (the paper)."""
    opaque: Knots = law((), Bounds(0))
    """On opacity that is neither 0 nor 1; off in the paper."""
