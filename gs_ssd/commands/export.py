"""`gs-ssd export`: the right file for the place it goes to."""

import argparse
import re
from pathlib import Path

from gs_ssd.commands import export_avatar, export_field
from gs_ssd.commands.export_options import PAGES, refuse_idle
from gs_ssd.errors import UserError
from gs_ssd.export import splat_transform
from gs_ssd.export.clean import Cleaning, clean, refuse_non_finite
from gs_ssd.export.formats import (
    AXES,
    format_of,
    read_splats,
    suffix_of,
    warn_if_mark_is_lost,
    write_splats,
)
from gs_ssd.export.frames import Frame
from gs_ssd.export.simplify import simplify, target_of
from gs_ssd.export.splats import Splats
from gs_ssd.export.targets import TARGETS
from gs_ssd.files import require_text, slug
from gs_ssd.run.folder import refuse_to_replace
from gs_ssd.viewer.page import write_page
from gs_ssd.viewer.runs import source_of
from gs_ssd.viewer.views import read_views

EPILOG = f"""\
examples
  gs-ssd export out/a-red-mushroom --for unity       the file, and how to import it
  gs-ssd export out/a-red-mushroom --for blender --for web
  gs-ssd export out/a-red-mushroom -o mushroom.glb --drop-floaters --height 0.3
  gs-ssd export out/a-red-mushroom --for web --simplify 25%   fewer, larger splats that look alike
  gs-ssd export out/a-red-mushroom --for web --views views.json   named views, a camera path
  gs-ssd export someones.ply -o theirs.spz --up +z   a file whose z axis points up
  gs-ssd export out/a-red-mushroom -o mushroom.obj --mesh     a surface, for engines without splats
  gs-ssd export out/avatar --clip walk -o walk/frame.spz   an avatar's frames, 24 per second
  gs-ssd export out/avatar --pose sit -o sitting.ply       an avatar in a pose
  gs-ssd export out/avatar --rigged -o person.glb          its body as a mesh with animations
  gs-ssd export axes -o axes.ply                     shows what an importer does to the axes

targets   {", ".join(TARGETS)}
formats   .ply .compressed.ply .splat .spz .sog .glb .html; .usda .usdc with the extra usd
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.epilog = EPILOG
    parser.add_argument(
        "source",
        help="a run's folder, a splat (.ply .splat .spz .glb .sog .ksplat), or the word: axes",
    )
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument(
        "--for",
        dest="targets",
        action="append",
        choices=TARGETS,
        metavar="TARGET",
        help="may be repeated",
    )
    goal.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the suffix names the format"
    )
    form = parser.add_argument_group("form")
    form.add_argument(
        "--axes", choices=AXES, help="axes of the file (default: those its readers expect)"
    )
    form.add_argument(
        "--up",
        metavar="AXIS",
        help="which axis of the source points up, if not its format's: -y, +z, ...",
    )
    form.add_argument(
        "--activated",
        nargs="?",
        const="both",
        choices=("both", "opacities", "scales"),
        help="the source stores opacities in 0..1 and linear sizes, not logits and logarithms",
    )
    form.add_argument(
        "--keep-offset",
        action="store_true",
        help="note beside the output how a far source was moved",
    )
    form.add_argument(
        "--sh-degree", type=int, choices=range(4), metavar="0..3", help="drop harmonics above this"
    )
    form.add_argument(
        "--pad-sh3",
        action="store_true",
        help="write all 45 harmonics (zeros), for strict importers",
    )
    form.add_argument(
        "--spz-version",
        type=int,
        choices=(2, 3, 4),
        help="of .spz files (4, or the newest that the target reads)",
    )
    form.add_argument(
        "--viewer",
        choices=("own", "supersplat"),
        default="own",
        help="whose page .html becomes (own)",
    )
    form.add_argument(
        "--views",
        type=Path,
        metavar="FILE",
        help="named views and a camera path for .html pages, JSON",
    )
    form.add_argument("--title", type=require_text, help="of pages and nodes (the prompt)")
    tidy = parser.add_argument_group("cleaning, each step counted")
    tidy.add_argument(
        "--keep-non-finite", action="store_true", help="do not drop NaN, infinite and absurd splats"
    )
    tidy.add_argument(
        "--drop-invisible", action="store_true", help="drop splats with opacity below 1/255"
    )
    tidy.add_argument(
        "--drop-floaters", action="store_true", help="drop what does not touch the main body"
    )
    tidy.add_argument(
        "--crop",
        type=float,
        metavar="R",
        help="drop what is farther from the middle, in the file's units",
    )
    tidy.add_argument("--max-splats", type=int, metavar="N", help="keep the N most visible")
    tidy.add_argument(
        "--simplify", metavar="N", help="merge splats until N are left, or N%% of them (25%%)"
    )
    tidy.add_argument(
        "--recenter", action="store_true", help="stand it over the origin, base on the ground"
    )
    tidy.add_argument("--height", type=float, metavar="METRES", help="scale to this height")
    export_avatar.add_arguments(parser)
    mesh = parser.add_argument_group(
        "mesh, for engines without splats (extra mesh; a preview, not a model)"
    )
    mesh.add_argument(
        "--mesh",
        action="store_true",
        help="write a surface with vertex colours: .glb, .obj or .ply",
    )
    mesh.add_argument(
        "--voxels", type=int, default=192, metavar="N", help="resolution along the object (192)"
    )
    mesh.add_argument("--triangles", type=int, metavar="N", help="simplify to so many triangles")
    mesh.add_argument(
        "--texture",
        type=int,
        nargs="?",
        const=1024,
        default=0,
        metavar="SIZE",
        help="a texture (1024) in .glb, .obj",
    )


def run(args: argparse.Namespace) -> int:
    """Read, clean, write; prints what was done.

    Raises:
        UserError: an unreadable source, an unknown format, a missing helper, nothing left to write.
    """
    if not args.mesh and (args.texture or args.triangles is not None):
        raise UserError("--texture and --triangles are of a mesh; add --mesh")
    if args.output is not None and suffix_of(args.output) == ".obj" and not args.mesh:
        raise UserError(f"{args.output}: .obj holds a mesh, not splats; add --mesh")
    if args.views:
        pages = "web" in (args.targets or []) or (args.output and suffix_of(args.output) in PAGES)
        if args.mesh or args.viewer != "own" or not pages:
            raise UserError("--views are shown by our own page: add --for web, or -o FILE.html")
        read_views(args.views)  # before anything is written
    refuse_idle(args)
    if export_avatar.wanted(args):
        return export_avatar.run(args)
    if args.output is not None and export_field.wanted(args):
        if not 16 <= args.voxels <= 1024:
            raise UserError(f"--voxels {args.voxels}: choose 16 to 1024")
        refuse_to_replace(args.output, None)
        print(f"{args.output}  {export_field.write(args)} triangles, {_bytes(args.output)}")
        return 0
    splats, title, source = load(args)
    if args.output is not None:
        refuse_to_replace(args.output, None if str(source) == "axes" else source)
    if args.mesh:
        if args.output is None:
            raise UserError("--mesh needs -o FILE with the suffix .glb, .obj or .ply")
        from gs_ssd.export.mesh import MeshOptions, write_mesh

        options = MeshOptions(voxels=args.voxels, triangles=args.triangles, texture=args.texture)
        size = write_mesh(args.output, splats, options)
        print(f"{args.output}  {size} triangles, {_bytes(args.output)}")
        return 0
    for name in args.targets or []:
        target = TARGETS[name]
        folder = source.parent if str(source) != "axes" else Path()
        path = folder / f"{slug(title, 'splat')}.{name}{target.suffix}"
        frame = AXES[args.axes] if args.axes else target.frame
        pad, version = args.pad_sh3 or target.pad_sh3, args.spz_version or target.spz_version
        write(path, splats, args, title, frame=frame, pad=pad, spz_version=version)
        print("  " + target.hint.format(file=path.name))
    if args.output is not None:
        frame = AXES[args.axes] if args.axes else None
        write(
            args.output,
            splats,
            args,
            title,
            frame=frame,
            pad=args.pad_sh3,
            spz_version=args.spz_version or 4,
        )
    return 0


def load(args: argparse.Namespace) -> tuple[Splats, str, Path]:
    """The cleaned splats, their title and the file they came from."""
    if args.up is not None and not re.fullmatch(r"[+-]?[xyz]", args.up):
        raise UserError(f"--up {args.up}: name a signed axis, such as +z or -y")
    if args.pose:
        splats, title, source = export_avatar.posed(args)
    else:
        source, title = (
            (Path("axes"), "axes") if args.source == "axes" else source_of(Path(args.source))
        )
        splats = read_splats(source, up=args.up, activated=args.activated)
    if args.keep_offset and args.height is not None:
        raise UserError(
            "--keep-offset cannot be combined with --height: scaled positions have no plain offset"
        )
    if args.sh_degree is not None and args.sh_degree < splats.sh_degree:
        splats = splats.with_sh_degree(args.sh_degree)
    options = Cleaning(
        non_finite=not args.keep_non_finite,
        invisible=args.drop_invisible,
        floaters=args.drop_floaters,
        crop_radius=args.crop,
        max_splats=args.max_splats,
        recenter=args.recenter,
        height=args.height,
    )
    before = len(splats)
    splats, removed = clean(splats, options)
    counted = [
        f"{count} {reason}" for reason, count in removed.items() if count or reason != "non-finite"
    ]
    if counted:
        print(f"{len(splats)} of {before} splats kept; removed: {', '.join(counted)}")
    if args.simplify is not None:
        refuse_non_finite(source, splats)
        before, splats = len(splats), simplify(splats, target_of(args.simplify, len(splats)))
        print(f"{before} splats merged into {len(splats)}")
    return splats, args.title or title, source


def write(
    path: Path,
    splats: Splats,
    args: argparse.Namespace,
    title: str,
    *,
    frame: Frame | None,
    pad: bool,
    spz_version: int,
) -> None:
    """One file, and one line about it."""
    if pad:
        splats = splats.with_sh_degree(3)
    if suffix_of(path) in PAGES:
        if args.viewer == "supersplat":
            axes: Frame = "inria"
            splat_transform.convert(splats.to_frame(axes), path)
        else:
            axes = "gltf"
            warn_if_mark_is_lost(path, splats)
            write_page(
                path, splats, title=title, views=read_views(args.views) if args.views else None
            )
    else:
        axes = frame or format_of(path).frame
        write_splats(
            path,
            splats,
            frame=frame,
            title=title,
            spz_version=spz_version,
            keep_offset=args.keep_offset,
        )
    name = next(key for key, value in AXES.items() if value == axes)
    print(f"{path}  {len(splats)} splats, degree {splats.sh_degree}, axes {name}, {_bytes(path)}")


def _bytes(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} KB"
