"""The part of `gs-ssd export` that is about avatars: poses, motions, rigged meshes."""

import argparse
import re
from pathlib import Path

from gs_ssd.body import clips
from gs_ssd.body.poses import CLIPS, POSES
from gs_ssd.commands.export_options import PAGES
from gs_ssd.errors import UserError
from gs_ssd.export.avatar_file import FILE, Avatar, read_avatar
from gs_ssd.export.formats import format_of, suffix_of, write_splats
from gs_ssd.export.rigged_mesh import write_rigged
from gs_ssd.export.splats import Splats
from gs_ssd.run.folder import refuse_to_replace
from gs_ssd.viewer.motion import Moving
from gs_ssd.viewer.page import write_page
from gs_ssd.viewer.runs import open_run

PAGE_FPS = 24.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("avatars (runs with asset=avatar)")
    group.add_argument("--pose", choices=POSES, metavar="NAME", help=f"{', '.join(POSES)}")
    group.add_argument(
        "--clip",
        metavar="NAME",
        help=f"{', '.join(CLIPS)} or a .bvh file: -o FOLDER/NAME.ply (or .spz, ...) becomes one"
        " file per frame, -o FILE.html a page that plays it",
    )
    group.add_argument("--fps", type=float, default=24.0, help="frames per second of --clip (24)")
    group.add_argument(
        "--rigged",
        action="store_true",
        help="-o FILE.glb becomes a mesh with a skin and animations (--clip's, or all)",
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether the output is a motion or a rigged mesh, and not one splat.

    Raises:
        UserError: options that do not go together.
    """
    if args.pose and (args.clip or args.rigged):
        raise UserError("--pose is one pose, --clip and --rigged move; leave one of them out")
    if not 0 < args.fps <= 1000:
        raise UserError(f"--fps {args.fps:g}: choose more than 0 and at most 1000")
    if (args.clip or args.rigged) and args.output is None:
        raise UserError("--clip and --rigged need -o: a frame's name (FOLDER/frame.ply) or a file")
    if args.rigged and args.mesh:
        raise UserError("--rigged has a mesh of its own (the body's); leave --mesh out")
    return bool(args.clip or args.rigged)


def source_of(path: Path) -> tuple[Avatar, str]:
    """The avatar of a run's folder or of an `avatar.npz`, and its title.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        return read_avatar(path / FILE), open_run(path).title
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path} does not move; name the folder of a run with asset=avatar")
    return read_avatar(path), path.parent.name or path.stem


def posed(args: argparse.Namespace) -> tuple[Splats, str, Path]:
    """The splat in `--pose`, its title, and where its files go beside."""
    path = Path(args.source)
    avatar, title = source_of(path)
    return avatar.posed(POSES[args.pose]), title, path / FILE if path.is_dir() else path


def run(args: argparse.Namespace) -> int:
    """Write frames, a page or a rigged mesh; prints what was written.

    Raises:
        UserError: no avatar, an unknown clip, a format that cannot be written, a result of another
            run in the way.
    """
    avatar, title = source_of(Path(args.source))
    title = args.title or title
    names = [args.clip] if args.clip else list(CLIPS)
    motions = [clips.sample(name, args.fps, avatar.skeleton) for name in names]
    path: Path = args.output
    folder = Path(args.source)
    refuse_to_replace(path, folder / FILE if folder.is_dir() else folder)
    if args.rigged:
        size = write_rigged(path, avatar, motions, name=title)
        played = ", ".join(motion.name for motion in motions)
        print(f"{path}  {size} triangles, {len(avatar.skeleton.joint_names)} joints, {played}")
        return 0
    if suffix_of(path) in PAGES:
        moving = Moving(avatar, motions)
        write_page(path, avatar.splats, title=title, turn=False, moving=moving)
        print(f"{path}  {len(avatar)} splats, {motions[0].name}")
        return 0
    return _frames(path, avatar, motions[0], title)


def _frames(path: Path, avatar: Avatar, motion: clips.Motion, title: str) -> int:
    format_of(path)  # refuse a suffix before anything is written
    suffix = suffix_of(path)
    stem = path.name.removesuffix(suffix)
    if not stem:
        raise UserError(f"{path}: name a frame, such as {path.parent / ('frame' + suffix)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    older = _frames_of(path.parent, stem, suffix)
    for file in older:  # of a longer motion, or of another: no frame of it may come after ours
        file.unlink()
    digits = max(4, len(str(len(motion.poses) - 1)))
    for number, pose in enumerate(motion.poses):
        frame = path.with_name(f"{stem}_{number:0{digits}d}{suffix}")
        write_splats(frame, avatar.posed(pose), title=title)
    first, last = (f"{stem}_{number:0{digits}d}{suffix}" for number in (0, len(motion.poses) - 1))
    print(
        f"{path.parent / first} .. {last}  {len(motion.poses)} frames of {motion.name} at"
        f" {motion.fps:g} per second, {len(avatar)} splats each"
    )
    return 0


def _frames_of(folder: Path, stem: str, suffix: str) -> list[Path]:
    """What an earlier export of frames of that name has left."""
    number = re.compile(re.escape(stem) + r"_[0-9]{4,}" + re.escape(suffix))
    found = [path for path in folder.iterdir() if number.fullmatch(path.name)]
    return [path for path in found if path.is_file()]
