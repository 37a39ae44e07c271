"""PLY as other programs write it: colours in any type, words in comments, values already activated,
far coordinates."""

import dataclasses
import json
import logging
import warnings

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from gs_ssd.cli import main
from gs_ssd.errors import UserError
from gs_ssd.export import activated
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.ply import write_ply
from gs_ssd.export.ply_reader import OPAQUE, read_ply
from gs_ssd.export.splats import Splats
from gs_ssd.maths.stored_colors import unit_colors
from gs_ssd.scene.initialize_files import read_points


def rewrite(path, change, **header) -> None:
    """The file's rows as a dictionary of columns, changed, and written again with `header`'s
    words."""
    rows = np.array(PlyData.read(path)["vertex"].data)
    columns = {name: np.array(rows[name]) for name in rows.dtype.names}
    change(columns)
    out = np.zeros(len(rows), dtype=[(name, values.dtype.str) for name, values in columns.items()])
    for name, values in columns.items():
        out[name] = values
    PlyData([PlyElement.describe(out, "vertex")], byte_order="<", **header).write(path)


def with_comment(path, *comments: bytes) -> None:
    raw = path.read_bytes()
    at = raw.index(b"element")
    path.write_bytes(
        raw[:at] + b"".join(b"comment " + comment + b"\n" for comment in comments) + raw[at:]
    )


COLORS = {
    "bytes": (np.uint8, 255),
    "words": (np.uint16, 65535),
    "float 0..1": (np.float32, 1),
    "double 0..1": (np.float64, 1),
    "float 0..255": (np.float32, 255),
    "int 0..255": (np.int32, 255),
    "float 0..65535": (np.float32, 65535),
}


@pytest.mark.parametrize("kind", COLORS)
@pytest.mark.parametrize("names", [("red", "green", "blue"), ("r", "g", "b")])
def test_plain_colours_of_any_type(tmp_path, make_splats, kind, names, caplog):
    dtype, full = COLORS[kind]
    wanted = np.random.default_rng(0).uniform(0.05, 1, size=(30, 3))
    write_ply(tmp_path / "a.ply", make_splats(30))

    def paint(columns):
        for i, name in enumerate(names):
            del columns[f"f_dc_{i}"]
            stored = wanted[:, i] * full
            columns[name] = (np.rint(stored) if np.dtype(dtype).kind in "iu" else stored).astype(
                dtype
            )

    rewrite(tmp_path / "a.ply", paint)
    assert read_splats(tmp_path / "a.ply").colors == pytest.approx(wanted, abs=0.003)
    assert "ignoring" not in caplog.text
    if names[0] == "red":  # the first points of a training read them by the same rule
        assert read_points(tmp_path / "a.ply")[1].numpy() == pytest.approx(wanted, abs=0.003)


def test_a_dark_picture_of_words_stays_dark():
    assert unit_colors(np.full((4, 3), 200, np.uint16)) == pytest.approx(200 / 65535)


def test_comments_are_free_text(tmp_path, make_splats):
    splats = make_splats(9)
    write_ply(tmp_path / "a.ply", splats)
    with_comment(
        tmp_path / "a.ply",
        "réalisé à Zürich 東京".encode(),
        b"\xff\xfe\x85",
        b"end_header is the last line",
    )
    assert np.array_equal(read_ply(tmp_path / "a.ply").means, splats.means)
    assert read_points(tmp_path / "a.ply")[0].numpy() == pytest.approx(splats.means)


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
def test_lines_that_end_otherwise(tmp_path, make_splats, ending):
    splats = make_splats(9)
    write_ply(tmp_path / "a.ply", splats)
    raw = (tmp_path / "a.ply").read_bytes()
    end = raw.index(b"end_header\n") + 11
    (tmp_path / "a.ply").write_bytes(raw[:end].replace(b"\n", ending) + raw[end:])
    assert np.array_equal(read_ply(tmp_path / "a.ply").means, splats.means)


UTM = np.array([431_234.0, 5_412_345.0, 512.0])

MARKS = {
    b"SplatRenderMode: mip": True,
    b"SplatRenderMode: default": False,
    b"antialiased 1": True,
    b"antialiased 0": False,
    b"trained without antialiased 1 lens": False,
}


@pytest.mark.parametrize("comment", MARKS)
@pytest.mark.parametrize("suffix", [".ply", ".spz", ".sog", ".compressed.ply"])
def test_the_mark_of_antialiasing_is_kept(tmp_path, make_splats, comment, suffix, caplog):
    write_ply(tmp_path / "a.ply", make_splats(9))
    with_comment(tmp_path / "a.ply", b"Exported from Brush", comment)
    splats = read_splats(tmp_path / "a.ply")
    assert splats.antialiased is MARKS[comment]
    assert ("antialiasing" in caplog.text) is MARKS[comment]
    caplog.clear()
    write_splats(tmp_path / f"b{suffix}", splats)
    assert "antialiased" not in caplog.text
    assert read_splats(tmp_path / f"b{suffix}").antialiased is MARKS[comment]


@pytest.mark.parametrize("suffix", [".splat", ".glb", ".html"])
def test_formats_that_cannot_hold_the_mark_say_so(tmp_path, suffix, caplog):
    splats = dataclasses.replace(axes_object(), antialiased=True)
    write_splats(tmp_path / "a.ply", splats)
    assert main(["export", str(tmp_path / "a.ply"), "-o", str(tmp_path / f"b{suffix}")]) == 0
    assert "cannot say that its splats are antialiased" in caplog.text
    assert b"comment" not in (tmp_path / "a.ply").read_bytes().replace(
        b"comment SplatRenderMode: mip\n", b"", 1
    )


def test_the_vertical_axis_of_nerfstudio_is_read(tmp_path, caplog):
    write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    (tmp_path / "a.ply.axes.json").unlink()
    with_comment(tmp_path / "a.ply", b"Generated by Nerfstudio 1.1.5", b"Vertical Axis: z")
    assert read_splats(tmp_path / "a.ply").to_frame("gltf").means == pytest.approx(
        axes_object().means, abs=1e-6
    )
    assert "Vertical Axis: z" in caplog.text
    upright = read_splats(tmp_path / "a.ply", up="+z").to_frame("gltf")
    assert upright.means == pytest.approx(axes_object().means, abs=1e-6)


def test_another_vertical_axis_is_named_with_the_flag(tmp_path, caplog):
    write_splats(tmp_path / "a.ply", axes_object())
    with_comment(tmp_path / "a.ply", b"Vertical Axis: x")
    assert read_splats(tmp_path / "a.ply").frame == "inria"
    assert "--up x" in caplog.text
    with_comment(tmp_path / "a.ply", b"Vertical axis: y")
    caplog.clear()
    assert read_splats(tmp_path / "a.ply").frame == "inria"
    assert not caplog.text


def test_further_elements_are_named(tmp_path, make_splats, caplog):
    write_ply(tmp_path / "a.ply", make_splats(9))
    rows = PlyElement.describe(np.array(PlyData.read(tmp_path / "a.ply")["vertex"].data), "vertex")
    frame = PlyElement.describe(np.array([(7,)], dtype=[("index", "<i4")]), "frame")
    PlyData([rows, frame], byte_order="<").write(tmp_path / "a.ply")
    assert len(read_ply(tmp_path / "a.ply")) == 9
    assert "1 further elements (frame)" in caplog.text


def test_infinite_opacities_become_numbers_that_can_move(tmp_path, make_splats, caplog):
    splats = make_splats(4)
    splats.logit_opacities[:] = [np.inf, -np.inf, 9.0, np.nan]
    write_ply(tmp_path / "a.ply", splats)
    back = read_ply(tmp_path / "a.ply")
    assert np.rint(back.opacities[:3] * 255) == pytest.approx([254, 0, 255])
    assert back.logit_opacities[0] == pytest.approx(OPAQUE)
    assert np.isnan(back.logit_opacities[3])
    assert "2 infinite opacities" in caplog.text


def activate(path, part="both") -> None:
    def change(columns):
        if part != "scales":
            columns["opacity"] = 1 / (1 + np.exp(-columns["opacity"]))
        for i in range(3 if part != "opacities" else 0):
            columns[f"scale_{i}"] = np.exp(columns[f"scale_{i}"])

    rewrite(path, change)


@pytest.mark.parametrize("part", ["both", "opacities", "scales"])
def test_activated_values_are_recognised_said_and_converted(tmp_path, make_splats, part, caplog):
    splats = make_splats(400)
    write_ply(tmp_path / "a.ply", splats)
    activate(tmp_path / "a.ply", part)
    found = activated.suspected(read_ply(tmp_path / "a.ply"))
    assert found == part
    words = ["export", str(tmp_path / "a.ply"), "-o", str(tmp_path / "b.ply")]
    assert main(words) == 0
    assert "--activated" in caplog.text
    caplog.clear()
    assert main([*words, "--activated", part]) == 0
    back = read_splats(tmp_path / "b.ply")
    assert back.scales == pytest.approx(splats.scales, rel=1e-5)
    assert back.opacities == pytest.approx(splats.opacities, abs=1e-3)
    assert not caplog.text


@pytest.mark.parametrize(
    "splats",
    [
        axes_object(),
        dataclasses.replace(
            axes_object(),
            means=axes_object().means * 1e4,
            log_scales=axes_object().log_scales + 9.2,
        ),
    ],
    ids=["small", "in millimetres"],
)
def test_honest_files_are_not_suspected(splats):
    assert activated.suspected(splats) is None


def at_utm(path, splats: Splats, dtype) -> None:
    write_ply(path, splats)

    def change(columns):
        for name, far in zip("xyz", UTM, strict=True):
            columns[name] = columns[name].astype(dtype) + dtype(far)

    rewrite(path, change)


def test_map_coordinates_are_centred_in_doubles(tmp_path, make_splats, caplog):
    splats = make_splats(500)
    at_utm(tmp_path / "a.ply", splats, np.float64)
    back = read_splats(tmp_path / "a.ply")
    assert back.means + back.offset == pytest.approx(splats.means + UTM, abs=1e-9, rel=1e-12)
    assert np.abs(np.median(back.means, axis=0)).max() < 1
    assert "431234" in caplog.text


def test_the_first_points_of_a_training_are_centred_in_doubles_too(tmp_path, make_splats, caplog):
    splats = make_splats(500)
    at_utm(tmp_path / "a.ply", splats, np.float64)
    points = read_points(tmp_path / "a.ply")[0].numpy()
    assert np.ptp(points - splats.means, axis=0) == pytest.approx(0, abs=1e-6)
    assert np.abs(np.median(points, axis=0)).max() <= 0.5
    assert "moved to the origin" in caplog.text


@pytest.mark.parametrize("suffix", [".ply", ".glb", ".splat"])
def test_far_single_precision_is_not_called_non_finite(tmp_path, make_splats, suffix):
    splats = dataclasses.replace(make_splats(50, frame="gltf"))
    splats.means[:] += UTM
    write_splats(tmp_path / f"a{suffix}", splats, frame="gltf")
    words = ["export", str(tmp_path / f"a{suffix}"), "-o", str(tmp_path / "b.ply")]
    assert main(words) == 0
    assert len(read_splats(tmp_path / "b.ply")) == 50


def test_the_offset_is_noted_on_request_in_the_axes_of_the_output(tmp_path, make_splats):
    splats = make_splats(50)
    at_utm(tmp_path / "a.ply", splats, np.float64)
    words = ["export", str(tmp_path / "a.ply"), "-o", str(tmp_path / "b.glb")]
    assert main(words) == 0
    assert not (tmp_path / "b.glb.axes.json").exists()
    assert main([*words, "--keep-offset"]) == 0
    noted = json.loads((tmp_path / "b.glb.axes.json").read_text())
    assert noted["offset"] == pytest.approx([431_234, -5_412_345, -512], abs=1)
    back = read_splats(tmp_path / "b.glb").to_frame("inria")
    assert back.means + back.offset == pytest.approx(splats.means + UTM, abs=1e-5, rel=0)
    assert main([*words, "--keep-offset", "--height", "2"]) == 2


def test_a_tiny_object_near_the_origin_stays_where_it_is(make_splats, tmp_path):
    splats = dataclasses.replace(make_splats(50), means=make_splats(50).means * 1e-3 + 0.7)
    write_ply(tmp_path / "a.ply", splats)
    assert np.array_equal(read_splats(tmp_path / "a.ply").means, splats.means)


@pytest.fixture(autouse=True)
def _warnings(caplog):
    caplog.set_level(logging.WARNING)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_colours_are_read_as_unsigned(dtype):
    """Programs that call bytes `char` mean 0..255 nevertheless."""
    unsigned = np.dtype(dtype).str.replace("i", "u")
    values = np.arange(0, 250, 5).astype(unsigned)[:, None].repeat(3, axis=1)
    expected = values / np.iinfo(unsigned).max
    assert unit_colors(values.view(dtype)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 3, 100), np.linspace(0, 3, 100).clip(0, 1)),  # shines above white
        (np.r_[np.linspace(0, 1, 2000), 1e9], np.r_[np.linspace(0, 1, 2000), 1]),  # one stray
        (np.r_[np.linspace(0, 1, 100), np.inf], np.r_[np.linspace(0, 1, 100), 1]),
        (np.arange(256.0), np.arange(256) / 255),
        (np.r_[np.zeros(90), np.arange(10.0)], np.r_[np.zeros(90), np.arange(10)] / 255),  # dark
        (np.array([np.nan, 0.5, 1.0]), np.array([0.5, 0.5, 1.0])),
    ],
    ids=["bright", "stray", "infinite", "bytes", "dark bytes", "not a number"],
)
def test_floats_of_any_range_are_colours(values, expected):
    assert unit_colors(values[:, None])[:, 0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_opacities_in_whole_numbers_are_read_by_their_type(
    tmp_path, make_splats, dtype, full, caplog
):
    splats = make_splats(40)

    def pack(columns):
        columns["opacity"] = np.rint(splats.opacities * full).astype(dtype)

    write_ply(tmp_path / "a.ply", splats)
    rewrite(tmp_path / "a.ply", pack)
    assert read_splats(tmp_path / "a.ply").opacities == pytest.approx(splats.opacities, abs=3e-3)
    assert f"opacities are whole numbers: read as 0..{full}" in caplog.text


def test_opacities_up_to_255_are_recognised(tmp_path, make_splats, caplog):
    splats = make_splats(40)

    def pack(columns):
        columns["opacity"] = (splats.opacities * 255).astype(np.float32)

    write_ply(tmp_path / "a.ply", splats)
    rewrite(tmp_path / "a.ply", pack)
    read_splats(tmp_path / "a.ply")
    assert "all opacities lie within 0..255" in caplog.text
    assert "--activated opacities" in caplog.text
    found = read_splats(tmp_path / "a.ply", activated="opacities").opacities
    assert found == pytest.approx(splats.opacities, abs=1e-3)


def test_flat_splats_keep_their_outline(tmp_path, make_splats, caplog):
    """2DGS exported as 3DGS: the third size is zero, its logarithm -infinite."""
    splats = make_splats(30)

    def flatten(columns):
        columns["scale_2"][::2] = -np.inf

    write_ply(tmp_path / "a.ply", splats)
    rewrite(tmp_path / "a.ply", flatten)
    found = read_splats(tmp_path / "a.ply")
    assert "15 flat splats were made 1/1000 as thick as wide" in caplog.text
    np.testing.assert_array_equal(found.log_scales[:, :2], splats.log_scales[:, :2])
    np.testing.assert_array_equal(found.log_scales[1::2], splats.log_scales[1::2])
    widest = found.scales[::2].max(axis=1)
    assert found.scales[::2, 2] == pytest.approx(widest / 1000, rel=1e-4)


def test_coordinates_of_32_bits_on_a_map_say_how_coarse_they_are(tmp_path, make_splats, caplog):
    def move(columns):
        columns["y"] = (columns["y"] + np.float32(5_412_345)).astype(np.float32)

    write_ply(tmp_path / "a.ply", make_splats(30))
    rewrite(tmp_path / "a.ply", move)
    read_splats(tmp_path / "a.ply")
    assert "in steps of 0.5 there" in caplog.text


@pytest.mark.parametrize("suffix", [".glb", ".spz", ".sog", ".splat", ".ksplat"])
def test_a_file_under_another_formats_name_is_told_what_it_is(tmp_path, make_splats, suffix):
    write_ply(tmp_path / "a.ply", make_splats(30))
    (tmp_path / "a.ply").rename(tmp_path / f"a{suffix}")
    with pytest.raises(UserError, match=rf"named {suffix}, but it is a PLY; rename it to \.ply"):
        read_splats(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(("suffix", "said"), [
    (".glb", "a GLB"), (".spz", "an SPZ"), (".sog", "a ZIP"), (".usdc", None),
])  # fmt: skip
def test_other_formats_named_ply_are_told_what_they_are(tmp_path, make_splats, suffix, said):
    if said is None:
        (tmp_path / "x.ply").write_bytes(b"PXR-USDC" + bytes(80))
        said = "not a PLY"
    else:
        write_splats(tmp_path / f"a{suffix}", make_splats(30))
        (tmp_path / f"a{suffix}").rename(tmp_path / "x.ply")
    with pytest.raises(UserError, match=said):
        read_splats(tmp_path / "x.ply")


@pytest.mark.parametrize("damage", ["as text", "byte order"])
def test_a_file_whose_numbers_make_no_sense_says_so(tmp_path, make_splats, damage, caplog):
    path = tmp_path / "a.ply"
    write_ply(path, make_splats(300))
    raw = path.read_bytes()
    if damage == "as text":  # as FTP does it
        path.write_bytes(raw.replace(b"\n", b"\r\n"))
    else:
        path.write_bytes(raw.replace(b"little", b"big", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["export", str(path), "-o", str(tmp_path / "b.ply")]) in (0, 2)
    assert "of 300 splats make no sense" in caplog.text


def test_bytes_after_the_last_splat_are_counted(tmp_path, make_splats, caplog):
    path = tmp_path / "a.ply"
    write_ply(path, make_splats(30))
    assert len(read_splats(path)) == 30
    assert caplog.text == ""
    path.write_bytes(path.read_bytes() + bytes(70))
    assert len(read_splats(path)) == 30
    assert "70 bytes after the last splat are ignored" in caplog.text


def test_a_map_in_any_format_is_no_damage(tmp_path, make_splats, caplog):
    splats = make_splats(30)
    far = dataclasses.replace(splats, means=splats.means + np.float32(5_412_345))
    write_splats(tmp_path / "a.splat", far)
    assert len(read_splats(tmp_path / "a.splat")) == 30
    assert "moved to the origin" in caplog.text
    assert "make no sense" not in caplog.text
