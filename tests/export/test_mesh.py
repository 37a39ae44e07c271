"""The mesh of a known shape is that shape, upright and coloured; without the libraries there is a
sentence."""

import json
import sys

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export.mesh import MeshOptions, write_mesh
from gs_ssd.export.splats import SH_C0, Splats, logit

pytestmark = pytest.mark.slow

CENTER, RADIUS = np.array([2.0, -1.0, 0.5]), 0.8
OPTIONS = MeshOptions(voxels=64, views_per_ring=8, polar_deg=(40.0, 90.0, 140.0), size=160)


@pytest.fixture(scope="module")
def libraries():
    pytest.importorskip("open3d", reason="open3d is not installed (pip install 'gs-ssd[mesh]')")
    return pytest.importorskip(
        "trimesh", reason="trimesh is not installed (pip install 'gs-ssd[mesh]')"
    )


@pytest.fixture(scope="module")
def ball() -> Splats:
    """A sphere of flat splats: red in its upper half, blue below; one faint stray far off."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(6000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colors = np.where(normals[:, 2:] > 0, [0.9, 0.1, 0.1], [0.1, 0.1, 0.9])
    quats = np.zeros((6000, 4))  # turns z to the normal
    quats[:, 0] = 1 + normals[:, 2]
    quats[:, 1], quats[:, 2] = -normals[:, 1], normals[:, 0]
    scales = np.tile([0.035, 0.035, 0.004], (6000, 1))
    means = CENTER + RADIUS * normals
    means[0] += 20.0
    return Splats(
        means,
        np.log(scales),
        quats,
        logit(np.full(6000, 0.9)),
        ((colors - 0.5) / SH_C0)[:, None],
        "world",
    )


def glb_colors(path) -> np.ndarray:
    """COLOR_0 in 0..255, past trimesh, some versions of which drop it beside a material."""
    gltf = pytest.importorskip("pygltflib").GLTF2().load(path)
    accessor = gltf.accessors[gltf.meshes[0].primitives[0].attributes.COLOR_0]
    view = gltf.bufferViews[accessor.bufferView]
    kind = {5121: np.uint8, 5123: np.uint16, 5126: np.float32}[accessor.componentType]
    width = {"VEC3": 3, "VEC4": 4}[accessor.type]
    start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    values = np.frombuffer(gltf.binary_blob(), kind, accessor.count * width, start).reshape(
        -1, width
    )
    return values * {np.uint8: 1.0, np.uint16: 255 / 65535, np.float32: 255.0}[kind]


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_mesh_of_a_ball_is_the_ball(tmp_path, libraries, ball, suffix):
    path = tmp_path / f"m{suffix}"
    count = write_mesh(path, ball, OPTIONS)
    mesh = libraries.load(path, force="mesh", process=False)
    assert len(mesh.faces) == count > 2000
    away = mesh.vertices - np.array([-CENTER[0], CENTER[2], CENTER[1]])  # glTF's axes
    distance = np.linalg.norm(away, axis=1)
    assert np.median(np.abs(distance - RADIUS)) < 0.01
    assert np.percentile(np.abs(distance - RADIUS), 99) < 0.03
    assert (
        np.einsum("ij,ij->i", mesh.face_normals, away[mesh.faces[:, 0]]) > 0
    ).mean() > 0.95  # faces look outwards
    colors = (
        glb_colors(path) if suffix == ".glb" else np.asarray(mesh.visual.vertex_colors, dtype=float)
    )
    top, bottom = colors[away[:, 1] > 0.3].mean(axis=0), colors[away[:, 1] < -0.3].mean(axis=0)
    linear = suffix == ".glb"
    assert top[0] == pytest.approx(255 * (0.787 if linear else 0.9), abs=14)
    assert bottom[2] == pytest.approx(255 * (0.787 if linear else 0.9), abs=14)
    assert (np.einsum("ij,ij->i", mesh.vertex_normals, away) > 0).mean() > 0.98
    if suffix == ".glb":
        assert b'"NORMAL"' in path.read_bytes()
        head = json.loads(path.read_bytes()[20:].split(b"BIN\0")[0].rsplit(b"}", 1)[0] + b"}")
        (primitive,) = head["meshes"][0]["primitives"]
        assert (
            head["materials"][primitive["material"]]["pbrMetallicRoughness"]["metallicFactor"] == 0
        )
    assert top[2] < 60
    assert bottom[0] < 60


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_textured(tmp_path, libraries, ball, suffix):
    pytest.importorskip("xatlas", reason="xatlas is not installed (pip install 'gs-ssd[mesh]')")
    path = tmp_path / f"m{suffix}"
    options = MeshOptions(**{**vars(OPTIONS), "triangles": 2000, "texture": 256})
    assert write_mesh(path, ball, options) <= 2000
    assert sorted(p.name for p in tmp_path.iterdir()) == (
        ["m.glb"] if suffix == ".glb" else ["m.mtl", "m.obj", "m.png"]
    )
    mesh = libraries.load(path, force="mesh", process=False)
    away = mesh.vertices - np.array([-CENTER[0], CENTER[2], CENTER[1]])
    material = mesh.visual.material
    picture = np.asarray(
        (material.baseColorTexture if suffix == ".glb" else material.image).convert("RGB"),
        dtype=float,
    )
    column, row = (mesh.visual.uv * [256, -256] % 256).astype(int).clip(0, 255).T
    colors = picture[row, column]
    assert colors[away[:, 1] > 0.2].mean(axis=0) == pytest.approx([230, 26, 26], abs=12)
    assert colors[away[:, 1] < -0.2].mean(axis=0) == pytest.approx([26, 26, 230], abs=12)
    assert len(picture[picture.sum(axis=2) < 60]) == 0  # no black gutters for mipmaps to mix in


def test_simplified(tmp_path, libraries, ball):
    count = write_mesh(tmp_path / "m.ply", ball, MeshOptions(**{**vars(OPTIONS), "triangles": 800}))
    assert 400 < count <= 800


def test_nothing_to_see(tmp_path, libraries, ball):
    faint = Splats(
        ball.means, ball.log_scales, ball.quats_wxyz, ball.logit_opacities - 9, ball.sh, "world"
    )
    with pytest.raises(UserError, match="no surface"):
        write_mesh(tmp_path / "m.glb", faint, OPTIONS)
    assert not (tmp_path / "m.glb").exists()


@pytest.mark.parametrize("module", ["open3d", "trimesh"])
def test_missing_libraries_are_a_sentence(tmp_path, ball, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="pip install"):
        write_mesh(tmp_path / "m.glb", ball)


def test_other_suffixes_and_sizes(tmp_path, ball):
    with pytest.raises(UserError, match=r"\.glb, \.obj, \.ply"):
        write_mesh(tmp_path / "m.stl", ball)
    with pytest.raises(UserError, match="PLY holds no texture"):
        write_mesh(tmp_path / "m.ply", ball, MeshOptions(texture=1024))
    with pytest.raises(UserError, match="--texture 1000"):
        write_mesh(tmp_path / "m.glb", ball, MeshOptions(texture=1000))
    with pytest.raises(UserError, match="voxels"):
        write_mesh(tmp_path / "m.glb", ball, MeshOptions(voxels=5))
