"""SPZ version 4 as we write it: the layout of its text, the axes it names, and what readers of
others make of it."""

import json
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zstandard
from scipy.spatial import cKDTree

from gs_ssd.cli import main
from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.ply_reader import read_ply
from gs_ssd.export.splats import Splats

# The format's own library, compiled to WebAssembly: what it unpacks in RUB axes.
LIBRARY = """
const fs = require("node:fs");
(async () => {
  const module = await import(process.argv[1]), spz = await module.default({ print() {},
    printErr() {} });
  const log = console.log;
  console.log = console.error = console.warn = () => {};
  const to = spz.CoordinateSystem.RUB;
  const cloud = spz.loadSpzFromBuffer(new Uint8Array(fs.readFileSync(process.argv[2])),
    { coordinateSystem: to, to });
  const parts = ["positions", "rotations", "scales", "alphas", "colors", "sh"];
  log(JSON.stringify({ degree: cloud.shDegree, antialiased: cloud.antialiased,
    ...Object.fromEntries(parts.map((part) => [part, Array.from(cloud[part])])) }));
})();
"""


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_layout(tmp_path, make_splats, degree):
    write_splats(tmp_path / "a.spz", make_splats(30, degree=degree))
    raw = (tmp_path / "a.spz").read_bytes()
    magic, version, count, found, bits, flags, streams, table = struct.unpack_from(
        "<4sIIBBBBI", raw
    )
    assert (magic, version, count, found, bits, flags, table) == (b"NGSP", 4, 30, degree, 12, 0, 32)
    assert raw[20:32] == bytes(12)
    assert streams == (5 if degree == 0 else 6)
    start = table + 16 * streams
    for i, width in enumerate([9, 1, 3, 3, 4, (0, 9, 24, 45)[degree]][:streams]):
        packed, unpacked = struct.unpack_from("<QQ", raw, table + 16 * i)
        assert unpacked == 30 * width
        assert len(zstandard.decompress(raw[start : start + packed])) == unpacked
        start += packed
    assert start == len(raw)


@pytest.mark.parametrize(("axes", "number"), [("gltf", None), ("inria", 6), ("blender", 12)])
def test_other_axes_are_named_in_the_file(tmp_path, make_splats, axes, number):
    splats = make_splats(30, degree=1, frame="world")
    write_splats(tmp_path / "a.spz", splats, frame=axes)
    raw = (tmp_path / "a.spz").read_bytes()
    table = struct.unpack_from("<I", raw, 16)[0]
    expected = b"" if number is None else struct.pack("<III", 0xADBE0003, 4, number)
    assert raw[32:table] == expected
    assert raw[14] == (2 if number else 0)
    assert [path.name for path in tmp_path.iterdir()] == [
        "a.spz"
    ]  # nothing has to be noted beside it
    back = read_splats(tmp_path / "a.spz")
    assert back.frame == "gltf"
    assert back.means == pytest.approx(splats.to_frame("gltf").means, abs=2.5e-4)


def test_our_own_axes_have_no_name_and_are_turned(tmp_path, make_splats, caplog):
    splats = make_splats(30, frame="world")
    write_splats(tmp_path / "a.spz", splats, frame="world")
    back = read_splats(tmp_path / "a.spz")
    assert back.means == pytest.approx(splats.to_frame("gltf").means, abs=2.5e-4)
    assert caplog.text == ""


def test_version_3_notes_other_axes_beside_it(tmp_path, make_splats):
    splats = make_splats(30, frame="inria")
    write_splats(tmp_path / "a.spz", splats, frame="inria", spz_version=3)
    assert json.loads((tmp_path / "a.spz.axes.json").read_text())["frame"] == "inria"
    assert read_splats(tmp_path / "a.spz").means == pytest.approx(splats.means, abs=2.5e-4)
    write_splats(tmp_path / "a.spz", splats, frame="inria")
    assert not (tmp_path / "a.spz.axes.json").exists()


def test_other_versions_are_refused(tmp_path, make_splats):
    with pytest.raises(UserError, match="2, 3 and 4"):
        write_splats(tmp_path / "a.spz", make_splats(3), spz_version=5)


def test_version_4_is_smaller(tmp_path, make_splats):
    for version in (3, 4):
        write_splats(tmp_path / f"{version}.spz", make_splats(5000, degree=3), spz_version=version)
    assert (tmp_path / "4.spz").stat().st_size < (tmp_path / "3.spz").stat().st_size


def test_command_chooses_what_the_target_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    versions = {}
    for name, words in {
        "three": ["--for", "three"],
        "file": ["-o", "file.spz"],
        "old": ["-o", "old.spz"],
    }.items():
        assert (
            main(["export", "axes", *words, *(["--spz-version", "3"] if name == "old" else [])])
            == 0
        )
        (path,) = tmp_path.glob("*.spz")
        versions[name] = 4 if path.read_bytes()[:4] == b"NGSP" else 3
        path.unlink()
    assert versions == {"three": 3, "file": 4, "old": 3}


@pytest.mark.readers
@pytest.mark.parametrize("axes", ["gltf", "inria", "blender"])
def test_the_formats_own_library(tmp_path, make_splats, node_package, axes):
    package = node_package("@adobe/spz")
    splats = make_splats(60, degree=3, frame="gltf")
    splats.sh[:] = splats.sh.clip(-0.4, 0.4)
    write_splats(tmp_path / "a.spz", splats, frame=axes)
    words = ["node", "-e", LIBRARY, str(package / "dist/spz.js"), str(tmp_path / "a.spz")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=60, env=dict(os.environ)
    )
    cloud = json.loads(done.stdout)
    assert np.reshape(cloud["positions"], (-1, 3)) == pytest.approx(splats.means, abs=2.5e-4)
    assert np.reshape(cloud["scales"], (-1, 3)) == pytest.approx(splats.log_scales, abs=0.033)
    assert np.array(cloud["alphas"]) == pytest.approx(splats.logit_opacities, abs=0.2)
    assert np.reshape(cloud["colors"], (-1, 3)) == pytest.approx(splats.sh[:, 0], abs=0.014)
    # Half a step of the coarser bands; where axes are exchanged, a sum over several of them.
    step = 0.14 if axes == "blender" else 0.07
    assert np.reshape(cloud["sh"], (-1, 15, 3)) == pytest.approx(splats.sh[:, 1:], abs=step)
    rotations = rotations_from_quaternions(
        np.roll(np.reshape(cloud["rotations"], (-1, 4)), 1, axis=1)
    )
    turn = rotations.transpose(0, 2, 1) @ rotations_from_quaternions(splats.quats_wxyz)
    # Up to the signs of an ellipsoid's axes, which a change of coordinates by flips may alter.
    assert np.abs(turn) == pytest.approx(np.broadcast_to(np.eye(3), turn.shape), abs=0.01)


def off(back: Splats, wanted: Splats) -> float:
    """How far the farthest splat lies from the nearest one wanted."""
    return float(cKDTree(back.means).query(wanted.means)[0].max())


@pytest.mark.readers
@pytest.mark.parametrize("axes", ["gltf", "inria"])
def test_programs_that_copy_axes(tmp_path, make_splats, axes):
    """gsply and gaussforge read version 4, and copy its axes as they are: a file in INRIA's is
    upright as their PLY."""
    gaussforge = pytest.importorskip(
        "gaussforge", reason="gaussforge is not installed (pip install gaussforge)"
    )
    gsply = pytest.importorskip("gsply", reason="gsply is not installed (pip install gsply)")
    splats = make_splats(60, degree=3, frame="gltf")
    write_splats(tmp_path / "a.spz", splats, frame=axes)
    as_stored = splats.to_frame(axes)
    data = gaussforge.GaussForge().convert((tmp_path / "a.spz").read_bytes(), "spz", "ply")["data"]
    (tmp_path / "back.ply").write_bytes(data)
    assert off(read_ply(tmp_path / "back.ply"), as_stored) < 3e-4
    assert gsply.read_spz(str(tmp_path / "a.spz")).means == pytest.approx(
        as_stored.means, abs=2.5e-4
    )


@pytest.mark.readers
def test_in_inria_axes_it_is_upright_through_splat_transform(tmp_path, node_package):
    program: Path = node_package("@playcanvas/splat-transform") / "bin/cli.mjs"
    write_splats(tmp_path / "a.spz", axes_object(), frame="inria")
    words = [
        "node",
        str(program),
        "-q",
        "-w",
        "-g",
        "cpu",
        str(tmp_path / "a.spz"),
        str(tmp_path / "back.ply"),
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    assert off(read_splats(tmp_path / "back.ply"), axes_object().to_frame("inria")) < 3e-4
