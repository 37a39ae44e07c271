"""A field's own surface: where it is solid, closed, facing out, coloured as the field."""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.assets.nerf import to_mesh
from gs_ssd.assets.nerf.config import ConversionConfig, NerfConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import step_length
from gs_ssd.errors import UserError

CPU = torch.device("cpu")
SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
SMALL = [
    "asset=nerf", "num_steps=2", "nerf.levels=4", "nerf.log2_entries=8", "nerf.base_resolution=4",
    "nerf.hidden=16", "nerf.steps=48", "nerf.cells=12", "nerf.levels_on=[]", "nerf.orientation=[]",
    "nerf.resolution=[[0, 16]]", "nerf.blob_density=40", "nerf.conversion.views=6",
    "nerf.conversion.image_size=32", "nerf.conversion.steps=2", "output.turntable_frames=0",
]  # fmt: skip
LOOK = ConversionConfig(views=6, image_size=32)


def ball(density=200.0, radius=0.5):
    """The blob alone is a ball, grey; its density falls to its softplus's tail at the radius."""
    config = NerfConfig(
        levels=3, log2_entries=8, base_resolution=4, hidden=16, steps=128,
        blob_density=density, blob_radius=radius, radius=1.5,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    field, occupancy = Field(config, CPU), Occupancy(24, CPU)
    field.initialize(rng)
    for _ in range(4):
        occupancy.update(field.density, step_length(field), config.least_alpha, rng)
    return field, occupancy


def test_a_blob_becomes_a_closed_ball_that_faces_out():
    pytest.importorskip("skimage")
    field, occupancy = ball()
    level = to_mesh.level_of(field, occupancy, LOOK)
    found = to_mesh.extract(field, occupancy, LOOK, voxels=64)
    # softplus(200 (1 - r / .5)) = level, and softplus is the identity there.
    want = 0.5 * (1 - math.log(math.expm1(level)) / 200)
    reach = np.linalg.norm(found.vertices, axis=1)
    assert reach == pytest.approx(want, abs=0.02)
    outwards = found.vertices / reach[:, None]
    assert ((found.normals * outwards).sum(axis=1) > 0.97).all()
    a, b, c = (found.vertices[found.faces[:, k]] for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(4 / 3 * math.pi * want**3, rel=0.05)
    edges = np.sort(np.concatenate([found.faces[:, [0, 1]], found.faces[:, [1, 2]],
                                    found.faces[:, [2, 0]]]), axis=1)  # fmt: skip
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()  # closed
    assert np.abs(found.colors - 0.5).max() < 0.1


def test_a_hollow_ball_has_one_skin_where_the_full_one_has_it(monkeypatch):
    pytest.importorskip("skimage")
    field, occupancy = ball()
    full = to_mesh.extract(field, occupancy, LOOK, voxels=48)
    dense = to_mesh.densities(field, occupancy, 48)
    side = np.linspace(-1.5, 1.5, len(dense))
    radius = np.sqrt(sum(np.square(axis) for axis in np.meshgrid(side, side, side)))
    hollow = np.where(radius < 0.3, 0, dense)
    monkeypatch.setattr(to_mesh, "densities", lambda *_: hollow.copy())
    found = to_mesh.extract(field, occupancy, LOOK, voxels=48)
    np.testing.assert_array_equal(found.faces, full.faces)
    np.testing.assert_allclose(found.vertices, full.vertices)


def test_only_occupied_cells_are_asked_and_none_that_matters_is_left_out():
    field, occupancy = ball()
    volume = to_mesh.densities(field, occupancy, 32)
    side = torch.linspace(0, 1, 33)
    places = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1).reshape(-1, 3)
    whole = field.density(places).detach().view(33, 33, 33).numpy()
    assert np.abs(np.where(whole > 1, volume - whole, 0)).max() < 1e-4
    assert volume[0, 0, 0] == 0


def test_crumbs_are_dropped():
    tetrahedron = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    corners = np.concatenate([tetrahedron * 0.05 + 5, tetrahedron])
    kept, triangles = to_mesh._without_crumbs(corners, np.concatenate([faces, faces + 4]))
    assert np.array_equal(kept, tetrahedron)
    assert np.array_equal(triangles, faces)


def test_an_empty_field_has_no_surface():
    pytest.importorskip("skimage")
    field, occupancy = ball()
    occupancy.load(torch.zeros_like(occupancy.values), 0.01)
    with pytest.raises(UserError, match="nothing of the field is solid"):
        to_mesh.extract(field, occupancy, LOOK, voxels=16)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(UserError, match=r"scikit-image: pip install 'gs-ssd\[mesh\]'"):
        to_mesh.extract(*ball(), LOOK, voxels=16)


def test_export_writes_it_upright(tmp_path, monkeypatch, capsys):
    pytest.importorskip("skimage")
    pytest.importorskip("trimesh")
    from gs_ssd.cli import main
    from gs_ssd.trainer import Trainer

    Trainer(configs.load(SMOKE, SMALL), tmp_path / "run").fit()
    out = tmp_path / "x.glb"
    assert main(["export", str(tmp_path / "run"), "-o", str(out), "--mesh", "--voxels", "32"]) == 0
    data = out.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    tree = json.loads(data[20 : 20 + length])
    position = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert position["count"] > 100
    assert max(map(abs, [*position["min"], *position["max"]])) <= 1.05  # the box
    assert "triangles" in capsys.readouterr().out
