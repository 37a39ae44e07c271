"""The part of `gs-ssd export --mesh` that is about radiance fields: the surface of the density
itself, where nothing is asked for that only the run's splats have."""

import argparse
from pathlib import Path

from gs_ssd import config as configs
from gs_ssd.assets.nerf.asset import NerfAsset
from gs_ssd.export.mesh import write_colored
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.run.trained import newest_asset

OF_SPLATS = (
    "texture", "triangles", "drop_floaters", "drop_invisible", "crop", "max_splats", "simplify",
    "recenter", "height", "up", "activated", "sh_degree",
)  # fmt: skip
"""Options of the mesh that is made of splats."""


def wanted(args: argparse.Namespace) -> bool:
    """Whether the mesh is to be made of a run's radiance field."""
    folder = Path(args.source)
    if not args.mesh or not (folder / "config.yaml").is_file():
        return False
    if not checkpoints.listing(folder / "checkpoints"):
        return False
    if configs.load(folder / "config.yaml").asset != NerfAsset.kind:
        return False
    asked = [name for name in OF_SPLATS if getattr(args, name) not in (None, False, 0)]
    if asked:
        named = ", ".join("--" + name.replace("_", "-") for name in asked)
        print(f"the mesh is made of the run's splats, as {named} asks")
    return not asked


def write(args: argparse.Namespace) -> int:
    """Write the mesh; returns how many triangles it has.

    Raises:
        UserError: a checkpoint that does not fit, nothing solid, another suffix, a missing library.
    """
    asset = newest_asset(Path(args.source))
    assert isinstance(asset, NerfAsset)
    surface = asset.surface(args.voxels)
    return write_colored(
        args.output, surface.vertices, surface.faces, surface.normals, surface.colors
    )
