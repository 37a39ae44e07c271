"""Compressed PLY, SOG and .ksplat as input: ours, those of the tools that made the formats, and
broken ones."""

import dataclasses
import io
import json
import struct
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.ply import write_ply
from gs_ssd.export.ply_reader import read_ply
from gs_ssd.export.splats import Splats

# See `compare`.
TOLERANCE = {
    ".sog": (3e-4, 0.03, 0.03, 0.005, 0.02, 0.03),
    ".compressed.ply": (5e-3, 0.006, 0.003, 0.003, 0.01, 0.017),
    ".ksplat": (1e-4, 0.003, 0.002, 0.004, 0.014, 0.008),
}
EXACT = (1e-6, 1e-5, 1e-5, 1e-5, 1e-5, 1e-5)


def tame(splats: Splats) -> Splats:
    """Colours within what 8 bits of 0..1 hold, and no splat so faint that a WebP may drop its
    colour."""
    splats.sh[:] = splats.sh.clip(-0.9, 0.9)
    splats.logit_opacities[:] = splats.logit_opacities.clip(-4, 4)
    return splats


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".sog", ".compressed.ply"])
def test_our_own_come_back(tmp_path, make_splats, suffix, degree, compare):
    splats = make_splats(600, degree=degree, frame="world")
    write_splats(tmp_path / f"a{suffix}", splats)
    back = read_splats(tmp_path / f"a{suffix}")
    assert back.frame == "inria"
    compare(back, splats.to_frame("inria"), TOLERANCE[suffix])


@pytest.fixture(params=["@playcanvas/splat-transform", "splat-transform-3"])
def transform(request, node_package):
    """Both lines of splat-transform, 2.7 and 3."""
    program = node_package(request.param) / "bin/cli.mjs"

    def run(source, target):
        words = ["node", str(program), "-q", "-w", "-g", "cpu", str(source), str(target)]
        subprocess.run(words, check=True, capture_output=True, timeout=120)

    return run


@pytest.mark.readers
@pytest.mark.slow  # of the two, making the .sog takes longest
@pytest.mark.parametrize(("suffix", "degree"), [(".sog", 0), (".compressed.ply", 3)])
def test_splat_transforms_files_as_itself_reads_them(
    tmp_path, make_splats, transform, suffix, degree, compare
):
    splats = tame(make_splats(300, degree=degree))
    write_ply(tmp_path / "a.ply", splats)
    transform(tmp_path / "a.ply", tmp_path / f"b{suffix}")
    back = read_splats(tmp_path / f"b{suffix}")
    compare(back, splats, TOLERANCE[suffix])
    transform(tmp_path / f"b{suffix}", tmp_path / "c.ply")
    compare(back, read_ply(tmp_path / "c.ply"), EXACT)


@pytest.mark.readers
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_sog_of_gaussforge(tmp_path, make_splats, degree, compare):
    gaussforge = pytest.importorskip(
        "gaussforge", reason="gaussforge is not installed (`make readers`)"
    )
    splats = tame(make_splats(600, degree=degree))
    write_ply(tmp_path / "a.ply", splats)
    made = gaussforge.GaussForge().convert((tmp_path / "a.ply").read_bytes(), "ply", "sog")["data"]
    (tmp_path / "b.sog").write_bytes(made)
    compare(read_splats(tmp_path / "b.sog"), splats, TOLERANCE[".sog"])


KSPLAT = """
globalThis.window = globalThis.self = globalThis;
const [module, source, target, level, degree] = process.argv.slice(2);
const fs = await import("fs");
const { PlyLoader } = await import(module);
const raw = fs.readFileSync(source);
const bytes = raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength);
const made = await PlyLoader.loadFromFileData(bytes, 0, +level, true, +degree);
fs.writeFileSync(target, Buffer.from(made.bufferData));
"""


@pytest.mark.readers
@pytest.mark.parametrize(("level", "degree"), [(0, 2), (1, 0), (1, 1), (2, 2)])
def test_ksplat_of_its_own_library(tmp_path, make_splats, node_package, level, degree, compare):
    splats = tame(make_splats(700, degree=degree))
    splats.means[:350] += 20  # more than one block
    write_ply(tmp_path / "a.ply", splats)
    (tmp_path / "make.mjs").write_text(KSPLAT)
    package = node_package("@mkkellogg/gaussian-splats-3d")
    module = package / "build" / "gaussian-splats-3d.module.js"
    words = ["make.mjs", module.as_uri(), "a.ply", "b.ksplat", str(level), str(degree)]
    subprocess.run(["node", *words], check=True, capture_output=True, timeout=120, cwd=tmp_path)
    exact = (1e-6, 1e-6, 1e-6, 0.004, 0.014, 1e-6)
    compare(read_splats(tmp_path / "b.ksplat"), splats, TOLERANCE[".ksplat"] if level else exact)


def test_a_compressed_ply_with_a_plain_suffix_is_read(tmp_path, make_splats, compare):
    splats = make_splats(300, degree=1)
    write_splats(tmp_path / "a.compressed.ply", splats)
    (tmp_path / "a.compressed.ply").rename(tmp_path / "b.ply")
    compare(read_splats(tmp_path / "b.ply"), splats, TOLERANCE[".compressed.ply"])


def sog_1(path, splats: Splats) -> None:
    """Version 1 by its layout: bytes between bounds, no codebooks."""
    count = len(splats)
    logs = np.sign(splats.means) * np.log1p(np.abs(splats.means))
    low, high = logs.min(axis=0), logs.max(axis=0)
    steps = np.rint((logs - low) / (high - low) * 65535).astype(np.uint16)
    wxyz = splats.unit_quats_wxyz
    largest = np.abs(wxyz).argmax(axis=1)
    signed = wxyz * np.sign(wxyz[np.arange(count), largest])[:, None]
    others = np.array([np.delete(q, i) for q, i in zip(signed, largest, strict=True)])
    color = np.concatenate([splats.sh[:, 0], splats.logit_opacities[:, None]], axis=1)

    def bounded(values):
        least, most = values.min(axis=0), values.max(axis=0)
        return np.rint((values - least) / (most - least) * 255), {
            "mins": least.tolist(),
            "maxs": most.tolist(),
        }

    sizes, size_bounds = bounded(splats.log_scales)
    colors, color_bounds = bounded(color)
    full = np.full((count, 1), 255)
    pictures = {
        "l": np.hstack([steps & 255, full]),
        "u": np.hstack([steps >> 8, full]),
        "q": np.hstack([(others * np.sqrt(0.5) + 0.5) * 255, (252 + largest)[:, None]]),
        "s": np.hstack([sizes, full]),
        "c": colors,
    }
    meta = {
        "means": {
            "shape": [count, 3],
            "mins": low.tolist(),
            "maxs": high.tolist(),
            "files": ["l.webp", "u.webp"],
        },
        "quats": {"files": ["q.webp"]},
        "scales": {**size_bounds, "files": ["s.webp"]},
        "sh0": {**color_bounds, "files": ["c.webp"]},
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, pixels in pictures.items():
            archive.writestr(
                f"{name}.webp", picture(np.rint(pixels).astype(np.uint8).reshape(1, count, 4))
            )


def picture(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(data, "WEBP", lossless=True, exact=True)
    return data.getvalue()


def test_sog_of_version_1(tmp_path, make_splats, compare):
    splats = make_splats(400)
    sog_1(tmp_path / "a.sog", splats)
    compare(read_splats(tmp_path / "a.sog"), splats, (3e-4, 0.02, 0.01, 0.01, 0.01, 0))


def test_the_mark_of_antialiasing_in_sog(tmp_path):
    for mark in (True, False):
        write_splats(tmp_path / "a.sog", dataclasses.replace(axes_object(), antialiased=mark))
        assert read_splats(tmp_path / "a.sog").antialiased is mark


def edit_sog(path, change) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(members["meta.json"])
    change(meta, members)
    members.setdefault("meta.json", b"")
    members["meta.json"] = json.dumps(meta).encode() if members["meta.json"] else b"{"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


SOG = {
    "no meta": lambda meta, members: members.update({"meta.json": b""}),
    "another version": lambda meta, members: meta.update(version=7),
    "a huge count": lambda meta, members: meta.update(count=10**12),
    "a count beyond the pictures": lambda meta, members: meta.update(count=3_000_000),
    "no count": lambda meta, members: meta.update(count=0),
    "a missing picture": lambda meta, members: members.pop("quats.webp"),
    "a picture of another place": (
        lambda meta, members: meta["quats"].update(files=["../../../etc/passwd"])
    ),
    "a small picture": lambda meta, members: members.update(
        {"scales.webp": picture(np.zeros((2, 2, 4), np.uint8))}
    ),
    "a vast picture": lambda meta, members: members.update(
        {"scales.webp": picture(np.zeros((8000, 8000, 4), np.uint8))}
    ),
    "no picture": lambda meta, members: members.update({"scales.webp": b"RIFF1234WEBP"}),
    "a short codebook": lambda meta, members: meta["scales"].update(codebook=[1.0]),
    "a bomb": lambda meta, members: members.update({"scales.webp": bytes(300 << 20)}),
    "bounds of two numbers": lambda meta, members: meta["means"].update(mins=[0, 0]),
    "labels beyond the palette": lambda meta, members: members.update(
        {"shN_labels.webp": picture(np.full((20, 20, 4), 255, np.uint8))}
    ),
    "an odd palette": lambda meta, members: members.update(
        {"shN_centroids.webp": picture(np.zeros((70, 70, 4), np.uint8))}
    ),
}


@pytest.mark.parametrize("name", SOG)
def test_hostile_sog(tmp_path, make_splats, name):
    path = tmp_path / "bad.sog"
    write_splats(path, make_splats(300, degree=1))
    edit_sog(path, SOG[name])
    refused(path)


def refused(path, limit=16e6):
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=path.name):
            read_splats(path)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".sog", ".compressed.ply", ".ksplat"])
@pytest.mark.parametrize("data", [b"", b"P", b"PK\3\4", b"hello, world" * 1000, bytes(5000)])
def test_bytes_of_nothing(tmp_path, suffix, data):
    (tmp_path / f"bad{suffix}").write_bytes(data)
    refused(tmp_path / f"bad{suffix}")


def ksplat(
    count=3,
    sections=1,
    level=1,
    section=(3, 3, 256, 1),
    partial=(0, 1),
    degree=0,
    bucket=12,
    rows=None,
) -> bytes:
    head = bytearray(4096)
    head[1] = 1
    struct.pack_into("<III", head, 4, sections, sections, sections)
    struct.pack_into("<IH", head, 16, count, level)
    part = bytearray(1024)
    struct.pack_into("<4IfH", part, 0, *section, 5.0, bucket)
    struct.pack_into("<I", part, 24, 32767)
    struct.pack_into("<2IH", part, 32, *partial, degree)
    sizes = struct.pack("<I", 3) * min(partial[1], 4)
    return bytes(head + part) + sizes + bytes(12) + (bytes(24 * 3) if rows is None else rows)


KSPLATS = {
    "another version": lambda: b"\1" + ksplat()[1:],
    "compression 9": lambda: ksplat(level=9),
    "many sections": lambda: ksplat(sections=2**32 - 1),
    "degree 7": lambda: ksplat(degree=7),
    "a vast room": lambda: ksplat(section=(3, 2**32 - 1, 256, 1)),
    "vast buckets": lambda: ksplat(section=(3, 3, 256, 2**32 - 1)),
    "more splats than room": lambda: ksplat(section=(4, 3, 256, 1)),
    "another count": lambda: ksplat(count=5),
    "splats outside the buckets": lambda: ksplat(section=(3, 3, 1, 1), partial=(3, 0)),
    "narrow buckets": lambda: ksplat(bucket=4),
    "truncated": lambda: ksplat()[:-1],
}


def test_a_ksplat_by_hand(tmp_path):
    rows = np.zeros(3, dtype=[("p", "<u2", 3), ("s", "<f2", 3), ("q", "<f2", 4), ("c", "u1", 4)])
    rows["p"] = [[0, 32767, 65534]] * 3
    rows["s"], rows["q"], rows["c"] = 0.5, [1, 0, 0, 0], [255, 128, 0, 255]
    (tmp_path / "a.ksplat").write_bytes(ksplat(rows=rows.tobytes()))
    back = read_splats(tmp_path / "a.ksplat")
    assert back.means == pytest.approx(np.tile([-2.5, 0, 2.5], (3, 1)))
    assert back.scales == pytest.approx(0.5)
    assert back.colors[0] == pytest.approx([1, 128 / 255, 0], abs=1e-6)


@pytest.mark.parametrize("name", KSPLATS)
def test_hostile_ksplat(tmp_path, name):
    (tmp_path / "bad.ksplat").write_bytes(KSPLATS[name]())
    refused(tmp_path / "bad.ksplat")


COMPRESSED = {
    "a chunk too few": lambda raw: raw.replace(b"element vertex 300", b"element vertex 900"),
    "no chunks": lambda raw: raw.replace(b"element chunk", b"element chimk"),
    "renamed bounds": lambda raw: raw.replace(b"min_x", b"min_q"),
    "harmonics of others": lambda raw: raw.replace(b"f_rest_3", b"f_rest_x"),
    "cut": lambda raw: raw[:-40],
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_hostile_compressed_ply(tmp_path, make_splats, name):
    path = tmp_path / "bad.compressed.ply"
    write_splats(path, make_splats(300, degree=1))
    path.write_bytes(COMPRESSED[name](path.read_bytes()))
    refused(path)
