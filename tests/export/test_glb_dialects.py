"""GLB of others: drafts of the extension, colours without harmonics, and reasons that are the true
ones."""

import json
import struct

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export.formats import read_splats
from gs_ssd.export.glb import EXTENSION, srgb_to_linear
from gs_ssd.export.splats import Splats

TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
Attributes = dict[str, np.ndarray]


def write(path, *primitives: Attributes, change=None) -> None:
    """A GLB whose one node carries a mesh of these primitives; `change` edits its JSON."""
    views, accessors, blocks, described = [], [], [], []
    offset = 0
    for attributes in primitives:
        indices = {}
        for name, values in attributes.items():
            data = np.ascontiguousarray(values, "<f4")
            indices[name] = len(accessors)
            views.append({"buffer": 0, "byteOffset": offset, "byteLength": data.nbytes})
            kind = TYPES[data.shape[1]]
            accessors.append(
                {
                    "bufferView": len(views) - 1,
                    "componentType": 5126,
                    "count": len(data),
                    "type": kind,
                }
            )
            blocks.append(data.tobytes())
            offset += data.nbytes
        extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
        described.append({"mode": 0, "attributes": indices, "extensions": {EXTENSION: extension}})
    document = {
        "asset": {"version": "2.0"},
        "extensionsUsed": [EXTENSION],
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": described}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    if change:
        change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = (
        struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", offset, b"BIN\0")
        + b"".join(blocks)
    )
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)


def attributes_of(splats: Splats, prefix: str = f"{EXTENSION}:") -> Attributes:
    return {
        "POSITION": splats.means,
        f"{prefix}SCALE": splats.scales,
        f"{prefix}ROTATION": np.roll(splats.unit_quats_wxyz, -1, axis=1),
        f"{prefix}OPACITY": splats.opacities[:, None],
        f"{prefix}SH_DEGREE_0_COEF_0": splats.sh[:, 0],
    }


def without(attributes: Attributes, *ends: str) -> Attributes:
    return {name: values for name, values in attributes.items() if not name.endswith(ends)}


@pytest.fixture
def splats(make_splats) -> Splats:
    made = make_splats(30, frame="gltf")
    made.sh[:] = made.sh.clip(-1, 1)
    return made


def test_drafts_with_underscores_keep_colour_and_opacity_in_one(tmp_path, splats, caplog):
    attributes = without(attributes_of(splats, "_"), "OPACITY", "COEF_0")
    color = np.concatenate([splats.colors, splats.opacities[:, None]], axis=1)
    write(tmp_path / "a.glb", {**attributes, "COLOR_0": color})
    back = read_splats(tmp_path / "a.glb")
    assert back.scales == pytest.approx(splats.scales, rel=1e-5)
    assert back.colors == pytest.approx(splats.colors, abs=1e-6)
    assert back.opacities == pytest.approx(splats.opacities, abs=1e-6)
    assert "as displayed" in caplog.text


@pytest.mark.parametrize("width", [3, 4])
def test_colours_without_harmonics_are_light(tmp_path, splats, width, caplog):
    color = np.full((30, width), 0.123)
    color[:, :3] = srgb_to_linear(splats.colors)
    write(tmp_path / "a.glb", {**without(attributes_of(splats), "COEF_0"), "COLOR_0": color})
    back = read_splats(tmp_path / "a.glb")
    assert back.colors == pytest.approx(splats.colors, abs=1e-6)
    assert back.opacities == pytest.approx(splats.opacities, abs=1e-6)
    assert "linear light" in caplog.text


@pytest.mark.parametrize("order", [1, -1])
def test_logarithms_are_decided_for_the_whole_file(tmp_path, splats, order, caplog):
    large = Splats(
        splats.means * 50,
        np.abs(splats.log_scales),
        splats.quats_wxyz,
        splats.logit_opacities,
        splats.sh,
        "gltf",
    )
    parts = [
        {**attributes_of(part), f"{EXTENSION}:SCALE": part.log_scales}
        for part in (splats, large)[::order]
    ]
    write(tmp_path / "a.glb", *parts)
    back = read_splats(tmp_path / "a.glb")
    wanted = np.concatenate([part.log_scales for part in (splats, large)[::order]])
    assert back.log_scales == pytest.approx(wanted, rel=1e-6)
    assert caplog.text.count("taken as logarithms") == 1


def test_a_mesh_on_two_nodes_is_there_twice(tmp_path, splats):
    def twice(document):
        document["nodes"] = [{"mesh": 0}, {"mesh": 0, "translation": [5, 0, 0]}]
        document["scenes"] = [{"nodes": [0, 1]}]

    write(tmp_path / "a.glb", attributes_of(splats), change=twice)
    back = read_splats(tmp_path / "a.glb")
    assert back.means[30:] == pytest.approx(splats.means + np.array([5, 0, 0]), abs=1e-5)


def meshopt(document) -> None:
    document["bufferViews"][1]["extensions"] = {
        "EXT_meshopt_compression": {"buffer": 0, "count": 30}
    }


def draco(document) -> None:
    document["meshes"][0]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"] = {}


def sparse(document) -> None:
    document["accessors"][1]["sparse"] = {"count": 1}


REASONS = {
    "meshopt": ((), meshopt, r"compressed with meshopt \(EXT_meshopt_compression\)"),
    "draco": ((), draco, r"compressed splats \(KHR_draco_mesh_compression\)"),
    "sparse": ((), sparse, "sparse accessors"),
    "no sizes": (("SCALE",), None, "no SCALE"),
    "no rotations": (("ROTATION",), None, "no ROTATION"),
    "no opacity": (("OPACITY",), None, "no OPACITY"),
    "no colour": (("COEF_0",), None, "neither SH_DEGREE_0_COEF_0 nor COLOR_0"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_missing_or_compressed_is_named(tmp_path, splats, name):
    ends, change, words = REASONS[name]
    attributes = attributes_of(splats)
    write(tmp_path / "a.glb", without(attributes, *ends) if ends else attributes, change=change)
    with pytest.raises(UserError, match=words):
        read_splats(tmp_path / "a.glb")


def _ratified(count=4, degree=1):
    names = {"ROTATION": 4, "SCALE": 3, "OPACITY": 1}
    names |= {f"SH_DEGREE_{band}_COEF_{n}": 3 for band in range(degree + 1)
              for n in range(2 * band + 1)}  # fmt: skip
    columns = {f"{EXTENSION}:{name}": np.full((count, width), 0.5) for name, width in names.items()}
    return {"POSITION": np.random.default_rng(0).normal(size=(count, 3)), **columns}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kernel", "customBox", "kernel is 'customBox'; taken as 'ellipse'"),
        (
            "colorSpace",
            "BT.709-sRGB",
            "colorSpace is 'BT.709-sRGB'; taken as 'srgb_rec709_display'",
        ),
        ("colorSpace", None, "colorSpace is None; taken as 'srgb_rec709_display'"),
        ("projection", "orthographic", "projection is 'orthographic'; taken as 'perspective'"),
    ],
)
def test_words_that_are_not_followed_are_said(tmp_path, key, value, said, caplog):
    def change(document):
        document["meshes"][0]["primitives"][0]["extensions"][EXTENSION][key] = value

    write(tmp_path / "plain.glb", _ratified())
    assert len(read_splats(tmp_path / "plain.glb")) == 4
    assert caplog.text == ""
    write(tmp_path / "a.glb", _ratified(), change=change)
    assert len(read_splats(tmp_path / "a.glb")) == 4
    assert said in caplog.text


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_incomplete_harmonics_are_named(tmp_path, missing):
    name = f"SH_DEGREE_1_COEF_{missing}"
    columns = _ratified()
    del columns[f"{EXTENSION}:{name}"]
    write(tmp_path / "a.glb", columns)
    with pytest.raises(UserError, match=f"harmonics of degree 1 without {name}"):
        read_splats(tmp_path / "a.glb")


@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0, np.nan])
def test_opacities_beyond_their_range_are_refused(tmp_path, value):
    columns = _ratified()
    columns[f"{EXTENSION}:OPACITY"][1] = value
    write(tmp_path / "a.glb", columns)
    with pytest.raises(UserError, match=r"OPACITY leaves 0\.\.1"):
        read_splats(tmp_path / "a.glb")


def test_a_projection_as_transform_is_refused(tmp_path):
    def change(document):
        document["nodes"][0]["matrix"] = [1, 0, 0, 0.5, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

    write(tmp_path / "a.glb", _ratified(), change=change)
    with pytest.raises(UserError, match="transform is a projection"):
        read_splats(tmp_path / "a.glb")


@pytest.mark.parametrize("name", ["EXT_unheard_of", "KHR_materials_unlit"])
def test_an_unknown_extension_that_the_file_requires_is_refused(tmp_path, name):
    write(tmp_path / "a.glb", _ratified(), change=lambda d: d.update(extensionsRequired=[name]))
    if name.startswith("KHR_materials"):  # of surfaces, so no matter to splats
        assert len(read_splats(tmp_path / "a.glb")) == 4
        return
    with pytest.raises(UserError, match="it requires EXT_unheard_of, which is not read"):
        read_splats(tmp_path / "a.glb")
