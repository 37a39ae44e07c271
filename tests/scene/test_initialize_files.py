"""Points and meshes of other programs: size, colour, orientation, and files that are wrong."""

import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

from gs_ssd.errors import UserError
from gs_ssd.maths.conventions import FROM_WORLD
from gs_ssd.scene import initialize, initialize_files
from gs_ssd.scene.initialize import InitializeConfig

FRONT_UP = {
    "world": ("+y", "+z"),
    "gltf": ("+z", "+y"),
    "inria": ("-z", "-y"),
    "blender": ("-y", "+z"),
}


def generator():
    return torch.Generator().manual_seed(0)


def axis(name):
    vector = torch.zeros(3)
    vector["xyz".index(name[1])] = 1.0 if name[0] == "+" else -1.0
    return vector


def write_ply(path, points, rgb=None):
    fields = [(name, "f4") for name in "xyz"]
    if rgb is not None:
        fields += [(name, rgb.dtype.str) for name in ("red", "green", "blue")]
    rows = np.zeros(len(points), dtype=fields)
    for i, name in enumerate("xyz"):
        rows[name] = points[:, i]
    if rgb is not None:
        for i, name in enumerate(("red", "green", "blue")):
            rows[name] = rgb[:, i]
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    return path


def write_glb(path, attributes, *, base_color=None):
    """A triangle, as the glTF 2.0 specification lays one out."""
    arrays = [
        np.array([0, 1, 2], "<u4"),
        *(np.asarray(value, "<f4") for value in attributes.values()),
    ]
    body = b"".join(array.tobytes() for array in arrays)
    offsets = np.cumsum([0, *(array.nbytes for array in arrays)])
    kinds = ["SCALAR", *("VEC3" for _ in attributes)]
    primitive = {"indices": 0, "attributes": {name: i + 1 for i, name in enumerate(attributes)}}
    content = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}], "buffers": [{"byteLength": len(body)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": int(offset), "byteLength": array.nbytes}
            for offset, array in zip(offsets, arrays, strict=False)
        ],
        "accessors": [
            {"bufferView": i, "componentType": 5126 if i else 5125, "count": 3, "type": kind}
            for i, kind in enumerate(kinds)
        ],
    }  # fmt: skip
    corners = np.asarray(attributes["POSITION"], "<f4")
    content["accessors"][1] |= {"min": corners.min(0).tolist(), "max": corners.max(0).tolist()}
    if base_color is not None:
        primitive["material"] = 0
        content["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": base_color}}]
    header = json.dumps(content).encode()
    header += b" " * (-len(header) % 4)
    total = 28 + len(header) + len(body)
    path.write_bytes(
        struct.pack("<4sII", b"glTF", 2, total)
        + struct.pack("<I4s", len(header), b"JSON") + header
        + struct.pack("<I4s", len(body), b"BIN\0") + body
    )  # fmt: skip
    return path


@pytest.mark.parametrize("frame", FROM_WORLD)
def test_every_frame_is_turned_so_that_front_is_y_and_up_is_z(frame):
    front, up = FRONT_UP[frame]
    turned = initialize_files.to_world(torch.stack([axis(front), axis(up)]), frame)
    torch.testing.assert_close(turned, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    rotation = torch.tensor(FROM_WORLD[frame].T, dtype=torch.float32)
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "rgb",
    [
        np.array([[255, 128, 0]] * 9, "u1"),
        np.array([[65535, 32896, 0]] * 9, "u2"),
        np.array([[1.0, 128 / 255, 0.0]] * 9, "f4"),
        np.array([[255.0, 128.0, 0.0]] * 9, "f4"),
    ],
    ids=["8 bit", "16 bit", "unit", "to 255"],
)
def test_colours_come_out_in_the_unit_interval(tmp_path, rgb):
    path = write_ply(tmp_path / "cloud.ply", np.random.default_rng(0).normal(size=(9, 3)), rgb)
    _, read = initialize_files.read_points(path)
    torch.testing.assert_close(
        read, torch.tensor([[1.0, 128 / 255, 0.0]]).expand(9, 3), atol=1e-6, rtol=0
    )


def test_a_cloud_is_thinned_or_spread_to_the_number_asked_for(tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 3)) * 9
    path = str(write_ply(tmp_path / "cloud.ply", points))

    def count(**settings):
        return len(
            initialize.create(InitializeConfig(shape="points", file=path, **settings), generator())
        )

    assert count() == 60
    assert count(num_points=20) == 20
    assert count(num_points=500, spread=0.05) == 500


def test_spread_moves_each_copy_on_its_own_and_not_far(tmp_path):
    path = str(
        write_ply(
            tmp_path / "cloud.ply",
            np.random.default_rng(0).normal(size=(60, 3)),
        )
    )
    config = InitializeConfig(shape="points", file=path, num_points=600, spread=0.05)
    spread = initialize.create(config, generator()).means
    exact = initialize.create(InitializeConfig(shape="points", file=path), generator()).means
    nearest = torch.cdist(spread, exact).min(dim=1).values
    assert 0.02 < nearest.mean() < 0.05 + 1e-6
    # LucidDreamer uses the same twenty offsets for every point; here all differ.
    assert len(spread.unique(dim=0)) == 600


def test_a_file_that_changed_is_read_anew(tmp_path):
    path = tmp_path / "cloud.ply"
    config = InitializeConfig(shape="points", file=str(path))
    square, line = np.eye(4)[:, :3], np.array([[i, 0, 0] for i in range(5)])
    counts = []
    for points in (square, line):
        write_ply(path, points)
        counts.append(len(initialize.create(config, generator())))
    assert counts == [4, 5]


def test_surface_samples_are_even_and_carry_the_corners_colours():
    """A square of two triangles, one four times as finely cut: the density must not notice."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 4, 3], [4, 2, 3]])
    mesh = initialize_files.Mesh(vertices, faces, vertices[faces])
    points, rgb = initialize_files.sample_surface(mesh, 8000, generator())
    cells = torch.histogramdd(points[:, :2], bins=4, range=[0.0, 1.0, 0.0, 1.0]).hist
    assert (cells / 8000 * 16 - 1).abs().max() < 0.2
    torch.testing.assert_close(rgb, points, atol=1e-5, rtol=0)


def test_a_mesh_without_area_is_refused():
    flat = initialize_files.Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), None)
    with pytest.raises(UserError, match="no area"):
        initialize_files.sample_surface(flat, 10, generator())


def test_without_open3d_the_message_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "open3d", None)
    path = tmp_path / "thing.obj"
    path.write_text("v 0 0 0\n")
    with pytest.raises(UserError, match=r"gs-ssd\[mesh\]"):
        initialize.create(InitializeConfig(shape="mesh", file=str(path)), generator())


def test_a_missing_mesh_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.obj: no such file"):
        initialize.create(
            InitializeConfig(shape="mesh", file=str(tmp_path / "nothing.obj")), generator()
        )


class TestThroughOpen3d:
    """What needs the extra `mesh`."""

    @pytest.fixture(autouse=True)
    def _open3d(self):
        pytest.importorskip("open3d", reason="needs the extra `mesh`", exc_type=ImportError)

    def test_a_glb_stands_upright_and_faces_the_front(self, tmp_path):
        corners = [[0, 0, 0], [0, 1, 0], [0, 0, 3]]  # glTF: up is +y, the front +z
        mesh = initialize_files.read_mesh(write_glb(tmp_path / "a.glb", {"POSITION": corners}))
        torch.testing.assert_close(mesh.vertices, torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 3, 0]]))
        same = initialize_files.read_mesh(tmp_path / "a.glb", "world")
        torch.testing.assert_close(same.vertices, torch.tensor(corners, dtype=torch.float32))

    def test_gltf_colours_are_light_and_become_displayable(self, tmp_path):
        corners = {"POSITION": [[0, 0, 0], [1, 0, 0], [0, 1, 0]]}
        light, shown = (
            [0.2158605, 1.0, 0.0],
            torch.tensor([0.5019608, 1.0, 0.0]),
        )  # sRGB 128, 255, 0
        painted = initialize_files.read_mesh(
            write_glb(tmp_path / "a.glb", {**corners, "COLOR_0": [light] * 3})
        )
        plain = initialize_files.read_mesh(
            write_glb(tmp_path / "b.glb", corners, base_color=[*light, 1.0])
        )
        for mesh in (painted, plain):
            torch.testing.assert_close(mesh.colors, shown.expand(1, 3, 3), atol=2e-3, rtol=0)

    def test_an_obj_texture_is_read_right_side_up(self, tmp_path):
        picture = np.zeros((4, 4, 3), np.uint8)
        picture[:2] = [0, 255, 0]  # the upper half green, the lower half red
        picture[2:] = [255, 0, 0]
        Image.fromarray(picture).save(tmp_path / "a.png")
        (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd a.png\n")
        (tmp_path / "a.obj").write_text(
            "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2"
            " 3/3\n"
        )
        mesh = initialize_files.read_mesh(tmp_path / "a.obj")
        torch.testing.assert_close(
            mesh.colors[0], torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        )

    @pytest.mark.parametrize("ending", ["obj", "stl", "off", "ply", "gltf"])
    def test_formats_that_open3d_writes_come_back(self, tmp_path, ending):
        import open3d

        box = open3d.geometry.TriangleMesh.create_box(1, 2, 3)
        box.compute_vertex_normals()
        path = tmp_path / f"box.{ending}"
        assert open3d.io.write_triangle_mesh(str(path), box)
        mesh = initialize_files.read_mesh(path, "world")
        torch.testing.assert_close(mesh.vertices.amax(dim=0), torch.tensor([1.0, 2.0, 3.0]))
        assert len(mesh.faces) == 12

    def test_a_mesh_starts_at_the_size_and_number_asked_for(self, tmp_path):
        import open3d

        path = tmp_path / "box.obj"
        open3d.io.write_triangle_mesh(
            str(path), open3d.geometry.TriangleMesh.create_box(10, 10, 40)
        )
        config = InitializeConfig(shape="mesh", file=str(path), num_points=3000, radius=0.4)
        splat = initialize.create(config, generator())
        assert len(splat) == 3000
        assert splat.means.norm(dim=-1).max().item() == pytest.approx(0.4, rel=0.02)
        extent = splat.means.amax(dim=0) - splat.means.amin(dim=0)
        assert (extent[2] / extent[0]).item() == pytest.approx(4.0, rel=0.02)
        assert (splat.sh_dc == 0).all()

    @pytest.mark.parametrize("ending", ["pcd", "xyz", "pts"])
    def test_other_point_clouds(self, tmp_path, ending):
        import open3d

        cloud = open3d.geometry.PointCloud()
        cloud.points = open3d.utility.Vector3dVector(np.random.default_rng(0).normal(size=(20, 3)))
        cloud.colors = open3d.utility.Vector3dVector(np.tile([[1.0, 0.0, 0.5]], (20, 1)))
        path = tmp_path / f"cloud.{ending}"
        assert open3d.io.write_point_cloud(str(path), cloud)
        points, rgb = initialize_files.read_points(path)
        assert len(points) == 20
        if ending != "xyz":
            torch.testing.assert_close(rgb[0], torch.tensor([1.0, 0.0, 0.5]), atol=5e-3, rtol=0)

    @pytest.mark.parametrize("name", ["a.obj", "a.glb", "a.stl", "a.pcd"])
    def test_rubbish_is_named(self, tmp_path, name):
        path = tmp_path / name
        path.write_text("hello")
        shape = "points" if name.endswith("pcd") else "mesh"
        with pytest.raises(UserError, match=name):
            initialize.create(InitializeConfig(shape=shape, file=str(path)), generator())
