"""Every format out and in again, in its own axes; lies in headers are refused before they cost
anything."""

import gzip
import json
import logging
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export import glb_reader, spz
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import FORMATS, read_splats, suffix_of, write_splats
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.splats import Splats

# Largest errors: position, rotation matrix entry, relative sigma, opacity, colour, harmonics.
TOLERANCE = {
    ".ply": (1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6),
    ".glb": (1e-6, 1e-6, 1e-5, 1e-6, 1e-6, 1e-6),
    ".splat": (1e-6, 0.04, 1e-6, 0.003, 0.003, None),
    ".spz": (2.5e-4, 0.008, 0.033, 0.003, 0.004, 0.07),
}


def compare(back: Splats, splats: Splats, tolerance) -> None:
    position, rotation, sigma, opacity, color, harmonics = tolerance
    assert back.means == pytest.approx(splats.means, abs=position)
    turned = rotations_from_quaternions(back.quats_wxyz)
    assert turned == pytest.approx(rotations_from_quaternions(splats.quats_wxyz), abs=rotation)
    assert back.scales == pytest.approx(splats.scales, rel=sigma)
    assert back.opacities == pytest.approx(splats.opacities, abs=opacity)
    assert back.colors == pytest.approx(splats.colors, abs=color)
    if harmonics is not None:
        assert back.sh[:, 1:] == pytest.approx(splats.sh[:, 1:], abs=harmonics)


@pytest.mark.parametrize("suffix", TOLERANCE)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_round_trip(tmp_path, make_splats, suffix, degree):
    splats = make_splats(200, degree=degree, frame="world")
    splats.sh[:] = splats.sh.clip(-0.35, 0.35)  # within SPZ's range, whichever way they are turned
    write_splats(tmp_path / f"a{suffix}", splats)
    back = read_splats(tmp_path / f"a{suffix}")
    assert back.frame == FORMATS[suffix].frame
    if suffix == ".splat":
        order = np.argsort(back.means[:, 0]), np.argsort(splats.to_frame("inria").means[:, 0])
        compare(
            back.take(order[0]),
            splats.to_frame("inria").take(order[1]).with_sh_degree(0),
            clip_color(suffix),
        )
    else:
        assert back.sh_degree == degree
        compare(back, splats.to_frame(back.frame), TOLERANCE[suffix])


def clip_color(suffix):
    position, rotation, sigma, opacity, _, _ = TOLERANCE[suffix]
    return (
        position,
        rotation,
        sigma,
        opacity,
        0.8,
        None,
    )  # the random colours reach beyond 0..1, 8 bits do not


def test_splat_keeps_colours_and_puts_the_visible_first(tmp_path):
    write_splats(tmp_path / "a.splat", axes_object())
    back = read_splats(tmp_path / "a.splat").to_frame("gltf")
    sizes = back.log_scales.sum(axis=1)
    assert (np.diff(sizes) <= 1e-4).all()
    green = np.linalg.norm(back.means - [0, 1, 0], axis=1).argmin()
    assert back.colors[green] == pytest.approx([0.1, 0.8, 0.1], abs=0.003)


def test_spz_version_2_is_as_coarse_as_it_is(tmp_path, make_splats):
    splats = make_splats(300, degree=1, frame="gltf")
    write_splats(tmp_path / "a.spz", splats, spz_version=2)
    back = read_splats(tmp_path / "a.spz")
    assert gzip.decompress((tmp_path / "a.spz").read_bytes())[4] == 2
    compare(back, splats, (2.5e-4, 0.2, 0.033, 0.003, 0.004, 1.0))
    write_splats(tmp_path / "b.spz", splats, spz_version=3)
    assert gzip.decompress((tmp_path / "b.spz").read_bytes())[4] == 3


def test_spz_counts_what_its_range_cuts(tmp_path, make_splats, caplog):
    splats = make_splats(20, degree=1)
    splats.sh[:] = 0.1
    splats.sh[3, 2, 1] = 1.5
    write_splats(tmp_path / "a.spz", splats)
    assert "1 of 20 splats" in caplog.text


def test_spz_is_the_same_bytes_every_time(tmp_path, make_splats):
    for name in "ab":
        write_splats(tmp_path / f"{name}.spz", make_splats(50))
    assert (tmp_path / "a.spz").read_bytes() == (tmp_path / "b.spz").read_bytes()


def test_spz_far_away_trades_precision_for_range(tmp_path, make_splats):
    splats = make_splats(20, frame="gltf")
    splats.means[0] = [30_000, -10, 5]
    write_splats(tmp_path / "a.spz", splats)
    assert read_splats(tmp_path / "a.spz").means == pytest.approx(splats.means, abs=0.01)


def test_other_axes_are_remembered_beside_the_file(tmp_path):
    write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    back = read_splats(tmp_path / "a.ply")
    assert back.frame == "blender"
    assert back.to_frame("gltf").means == pytest.approx(axes_object().means, abs=1e-6)
    write_splats(tmp_path / "a.ply", axes_object())
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]
    (tmp_path / "a.ply.axes.json").write_text("[1]")
    with pytest.raises(UserError, match=r"a\.ply\.axes\.json is damaged"):
        read_splats(tmp_path / "a.ply")


def test_up_turns_a_file_of_unknown_axes(tmp_path):
    write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    (tmp_path / "a.ply.axes.json").unlink()
    back = read_splats(tmp_path / "a.ply", up="+z").to_frame("gltf")
    assert back.means == pytest.approx(axes_object().means, abs=1e-6)


def test_suffixes():
    assert suffix_of("x/A.Compressed.PLY") == ".compressed.ply"
    assert suffix_of("a.b.ply") == ".ply"
    with pytest.raises(UserError, match=r"\.obj"):
        write_splats("a.obj", axes_object())
    with pytest.raises(UserError, match="written, not read"):
        read_splats("a.usda")
    with pytest.raises(UserError, match=r"unknown format \.stl; .*\.ply, .* are read") as refused:
        read_splats("a.stl")
    assert ".usda" not in str(refused.value)
    with pytest.raises(UserError, match="read, not written"):
        write_splats("a.ksplat", axes_object())
    assert len(read_splats("axes")) == len(axes_object())


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".spz", ".glb"])
@pytest.mark.parametrize("keep", [0, 3, 12, 30, 0.3, 0.97])
def test_truncated_files(tmp_path, make_splats, suffix, keep):
    path = tmp_path / f"a{suffix}"
    write_splats(path, make_splats(40, degree=1))
    raw = path.read_bytes()
    size = int(keep * len(raw)) if isinstance(keep, float) else keep
    path.write_bytes(raw[: size | 1 if suffix == ".splat" else size])
    with pytest.raises(UserError, match=r"a\."):
        read_splats(path)


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".spz", ".glb"])
def test_missing_files_and_folders(tmp_path, suffix):
    with pytest.raises(UserError, match="missing"):
        read_splats(tmp_path / f"missing{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UserError, match="folder"):
        read_splats(tmp_path / f"folder{suffix}")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(UserError, match="not a plain file"):
        read_splats(tmp_path / f"pipe{suffix}")


def spz_bytes(
    version=3, count=1, degree=0, bits=12, flags=0, body=b"\0" * 20, magic=spz.MAGIC
) -> bytes:
    return gzip.compress(spz.HEADER.pack(magic, version, count, degree, bits, flags, 0) + body)


SPZ = {
    "not gzip": b"hello, world, this is no splat",
    "other gzip": gzip.compress(b"0" * 100),
    "version 4": b"NGSP" + b"\0" * 60,
    "version 1": spz_bytes(version=1),
    "version 77": spz_bytes(version=77),
    "empty stream": gzip.compress(b""),
    "no splats": spz_bytes(count=0, body=b""),
    "huge count": spz_bytes(count=2**32 - 1),
    "too few bytes": spz_bytes(count=2),
    "degree 9": spz_bytes(degree=9),
    "63 bits": spz_bytes(bits=63),
    "bomb": spz_bytes(count=40_000_000, body=b"\0" * 50_000_000),
    "broken deflate": spz_bytes()[:14] + b"\xff" * 30,
}


@pytest.mark.parametrize("name", SPZ)
def test_hostile_spz(tmp_path, name):
    path = tmp_path / "bad.spz"
    path.write_bytes(SPZ[name])
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bad\.spz"):
        read_splats(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_spz_longer_than_promised_is_cut_where_it_ends(tmp_path, make_splats, caplog):
    write_splats(tmp_path / "a.spz", make_splats(5), spz_version=3)
    raw = zlib.decompress((tmp_path / "a.spz").read_bytes(), 31)
    (tmp_path / "a.spz").write_bytes(
        gzip.compress(raw[:14] + b"\x03" + raw[15:] + b"\0" * 10_000_000)
    )
    assert len(read_splats(tmp_path / "a.spz")) == 5
    assert "extensions" in caplog.text


def test_a_dot_splat_of_another_format_is_named(tmp_path, make_splats):
    write_splats(tmp_path / "a.ply", make_splats(3))
    (tmp_path / "a.ply").rename(tmp_path / "a.splat")
    with pytest.raises(UserError, match="it is a PLY; rename it"):
        read_splats(tmp_path / "a.splat")


def edit_glb(path, change) -> None:
    """Rewrite the JSON part of a GLB."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<I", raw, 12)
    document = json.loads(raw[20 : 20 + length])
    text = change(document)
    text = text if isinstance(text, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = raw[20 + length :]
    path.write_bytes(
        struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
        + text
        + rest
    )


def set_(*keys, to):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


ATTRIBUTES = ("meshes", 0, "primitives", 0, "attributes")
GLB = {
    "no json": lambda d: b"\xff" * 40,
    "a list": lambda d: b"[1]",
    "deep json": lambda d: b"[" * 100_000,
    "long number": lambda d: b'{"nodes":' + b"9" * 10_000 + b"}",
    "node loop": set_("nodes", 0, "children", to=[0]),
    "fan-out": set_(
        "nodes",
        to=[{"children": [1] * 100}, {"children": [2] * 100}, {"children": [3] * 100}, {"mesh": 0}],
    ),
    "no such node": set_("scenes", 0, "nodes", to=[7]),
    "negative index": set_(*ATTRIBUTES, "POSITION", to=-99),
    "count beyond the data": set_("accessors", 0, "count", to=10**9),
    "count of nothing": set_("accessors", 0, "count", to=-5),
    "float count": set_("accessors", 0, "count", to=1e300),
    "nan count": lambda d: json.dumps(d).replace('"count": 40', '"count": NaN').encode(),
    "offset beyond": set_("bufferViews", 2, "byteOffset", to=10**12),
    "negative offset": set_("bufferViews", 2, "byteOffset", to=-64),
    "zero stride": set_("bufferViews", 2, "byteStride", to=1),
    "negative stride": set_("bufferViews", 2, "byteStride", to=-4),
    "wrong width": set_("accessors", 2, "type", to="VEC2"),
    "unknown component": set_("accessors", 2, "componentType", to=1),
    "different counts": set_("accessors", 2, "count", to=39),
    "file elsewhere": set_("buffers", 0, "uri", to="../../../../etc/passwd"),
    "url": set_("buffers", 0, "uri", to="http://127.0.0.1:1/x.bin"),
    "second buffer": set_("bufferViews", 2, "buffer", to=3),
    "compressed": set_(
        "meshes",
        0,
        "primitives",
        0,
        "extensions",
        glb_reader.EXTENSION,
        "extensions",
        to={"SPZ": {}},
    ),
    "no splats": set_("meshes", 0, "primitives", 0, "extensions", to={}),
    "missing attribute": (
        lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(f"{glb_reader.EXTENSION}:SCALE")
    ),
    "half a band": (
        lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(
            f"{glb_reader.EXTENSION}:SH_DEGREE_1_COEF_1"
        )
    ),
    "mirrored": set_("nodes", 0, "scale", to=[-1, 1, 1]),
    "stretched": set_("nodes", 0, "scale", to=[1, 2, 1]),
    "flat": set_("nodes", 0, "scale", to=[0, 0, 0]),
    "short matrix": set_("nodes", 0, "matrix", to=[1, 0, 0]),
    "nan matrix": set_("nodes", 0, "matrix", to=[float("nan")] * 16),
    "zero rotation": set_("nodes", 0, "rotation", to=[0, 0, 0, 0]),
    "meshes is a word": set_("meshes", to="mesh"),
}


@pytest.mark.parametrize("name", GLB)
def test_hostile_glb(tmp_path, make_splats, name):
    path = tmp_path / "bad.glb"
    write_splats(path, make_splats(40, degree=1))
    edit_glb(path, GLB[name])
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bad\.glb"):
        read_splats(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_glb_nodes_move_turn_and_scale_their_splats(tmp_path, make_splats):
    splats = make_splats(40, degree=1, frame="gltf")
    write_splats(tmp_path / "a.glb", splats)
    half = np.sqrt(0.5)
    parent = {
        "children": [0],
        "translation": [1, 2, 3],
        "rotation": [0, half, 0, half],
        "scale": [2, 2, 2],
    }
    edit_glb(tmp_path / "a.glb", lambda d: d["nodes"].append(parent))
    edit_glb(tmp_path / "a.glb", set_("scenes", 0, "nodes", to=[1]))
    back = read_splats(tmp_path / "a.glb")
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    assert back.means == pytest.approx(2 * splats.means @ turn.T + [1, 2, 3], abs=1e-5)
    assert back.scales == pytest.approx(2 * splats.scales, rel=1e-5)
    assert back.sh == pytest.approx(splats.rotated(turn).sh, abs=1e-6)


def test_glb_quantized_attributes_and_drafts(tmp_path, make_splats, caplog):
    splats = make_splats(40, frame="gltf")
    write_splats(tmp_path / "a.glb", splats)
    raw = bytearray((tmp_path / "a.glb").read_bytes())
    (length,) = struct.unpack_from("<I", raw, 12)
    document = json.loads(raw[20 : 20 + length])
    key = document["meshes"][0]["primitives"][0]["attributes"][f"{glb_reader.EXTENSION}:OPACITY"]
    start = 28 + length + document["bufferViews"][key]["byteOffset"]
    raw[start : start + 40] = np.rint(splats.opacities * 255).astype(np.uint8).tobytes()
    (tmp_path / "a.glb").write_bytes(raw)
    edit_glb(
        tmp_path / "a.glb",
        lambda d: d["accessors"][key].update(componentType=5121, normalized=True),
    )
    assert read_splats(tmp_path / "a.glb").opacities == pytest.approx(splats.opacities, abs=0.003)
    with caplog.at_level(logging.WARNING):
        scale = document["meshes"][0]["primitives"][0]["attributes"][
            f"{glb_reader.EXTENSION}:SCALE"
        ]
        start = 28 + length + document["bufferViews"][scale]["byteOffset"]
        raw[start : start + 480] = splats.log_scales.tobytes()
        (tmp_path / "b.glb").write_bytes(raw)
        edit_glb(
            tmp_path / "b.glb",
            lambda d: d["accessors"][key].update(componentType=5121, normalized=True),
        )
        assert read_splats(tmp_path / "b.glb").scales == pytest.approx(splats.scales, rel=1e-5)
    assert "logarithms" in caplog.text
