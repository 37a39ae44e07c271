"""Which options of `gs-ssd export` the result that is asked for has a use for.

One that would change nothing is refused: who asks for `--height 0.3` and gets a file of another
height finds out in somebody else's program.
"""

import argparse
from typing import Final

from gs_ssd.errors import UserError
from gs_ssd.export.formats import suffix_of
from gs_ssd.export.targets import TARGETS

PAGES: Final = (".html", ".htm")
SOURCE: Final = ("up", "activated")
CLEANING: Final = (
    *("keep_non_finite", "drop_invisible", "drop_floaters", "crop", "max_splats", "simplify"),
    *("recenter", "height"),
)
MESH: Final = ("voxels", "triangles", "texture")
DEFAULTS: Final = {
    **dict.fromkeys((*SOURCE, "axes", "sh_degree", "spz_version", "crop", "max_splats")),
    **dict.fromkeys(("simplify", "height", "triangles", "views")),
    **dict.fromkeys(("keep_offset", "pad_sh3", "keep_non_finite", "drop_invisible"), False),
    **dict.fromkeys(("drop_floaters", "recenter"), False),
    "viewer": "own",
    "fps": 24.0,
    "voxels": 192,
    "texture": 0,
}
"""What options are where they were not given."""


def refuse_idle(args: argparse.Namespace) -> None:
    """See that every option that was given changes something.

    Raises:
        UserError: one that does not.
    """
    used, result = _used(args)
    idle = [name for name, default in DEFAULTS.items() if getattr(args, name) != default]
    idle = [f"--{name.replace('_', '-')}" for name in idle if name not in used]
    if idle:
        them = "it" if len(idle) == 1 else "them"
        raise UserError(f"{', '.join(idle)} would change nothing in {result}; leave {them} out")


def _used(args: argparse.Namespace) -> tuple[set[str], str]:
    """Names of the options that have a use, and what is made."""
    if args.rigged:
        return {"fps"}, "a rigged mesh"
    if args.clip:
        return {"fps"}, "a motion"
    source = () if args.pose else SOURCE
    if args.mesh:
        return {*source, *CLEANING, *MESH, "sh_degree"}, "a mesh"
    suffixes = [TARGETS[name].suffix for name in args.targets or []]
    if args.output is not None:
        suffixes.append(suffix_of(args.output))
    used = {*source, *CLEANING, "sh_degree"}
    for suffix in suffixes:
        used |= {"viewer", "views"} if suffix in PAGES else {"axes", "keep_offset", "pad_sh3"}
        used |= {"spz_version"} if suffix == ".spz" else set()
    return used, "a page" if set(suffixes) <= set(PAGES) else f"{' and '.join(suffixes)} files"
