"""PlayCanvas's splat-transform (Node), for its own page (`--viewer supersplat`)."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.export.ply import write_ply
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path

VARIABLE = "GS_SSD_SPLAT_TRANSFORM"  #: path of the program, or of its bin/cli.mjs
OLDEST, NEWEST = (2, 7), (3, 99)  #: versions whose options are known; 2.7.1 and 3.7.0 were tried
TIMEOUT_S = 1800
INSTALL = "npm install -g @playcanvas/splat-transform (Node 20 or newer)"


def find_splat_transform() -> list[str]:
    """The command's first words, from the variable or the PATH.

    Raises:
        UserError: it is missing, does not run, or is of a version that is not known to work.
    """
    named = os.environ.get(VARIABLE)
    found = named or shutil.which("splat-transform")
    if not found:
        raise UserError(
            "this page is written by PlayCanvas's splat-transform, which is not installed:"
            f" {INSTALL}"
        )
    command = [found]
    if found.endswith((".mjs", ".js")):
        node = shutil.which("node")
        if node is None:
            raise UserError(
                "splat-transform needs Node, which is not installed (https://nodejs.org, 20 or"
                " newer)"
            )
        command = [node, found]
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{found} does not run ({error}); install it again: {INSTALL}") from error
    text = (done.stdout + done.stderr).strip()
    match = re.search(r"(\d+)\.(\d+)\.\d+", text)
    version: tuple[int, int] = (int(match[1]), int(match[2])) if match else (0, 0)
    if not OLDEST <= version <= NEWEST:
        raise UserError(
            f"splat-transform {text or 'of unknown version'}; 2.7 to 3.x are known to work:"
            f" {INSTALL}"
        )
    return command


def convert(splats: Splats, path: str | os.PathLike[str], *options: str) -> None:
    """Write `splats`, in the INRIA frame, to whatever the suffix of `path` names; atomically.

    Raises:
        UserError: the program is missing, fails, or takes longer than half an hour.
    """
    path = Path(path)
    command = find_splat_transform()
    with tempfile.TemporaryDirectory(prefix="gs-ssd-") as folder, atomic_path(path) as temporary:
        source, target = Path(folder) / "in.ply", Path(folder) / f"out{path.suffix.lower()}"
        write_ply(source, splats)
        words = [*command, "-q", "-w", "-g", "cpu", *options, str(source), str(target)]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"splat-transform did not finish {path.name} in half an hour; try --sh-degree 0"
            ) from error
        except OSError as error:
            raise UserError(f"splat-transform does not run: {error}") from error
        if done.returncode or not target.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise UserError(f"splat-transform could not write {path.name}: {lines[-1]}")
        shutil.copyfile(target, temporary)
