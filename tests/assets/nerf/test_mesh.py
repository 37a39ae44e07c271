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
from gs_ssd.assets.nerf.config import NerfConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import step_length
from gs_ssd.errors import UserError

CPU = torch.device("cpu")
SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
SMALL = [
    "asset=nerf", "initialize.shape=sphere", "num_steps=2",
    "nerf.levels=4", "nerf.log2_entries=8", "nerf.base_resolution=4",
    "nerf.hidden=16", "nerf.steps=48", "nerf.cells=12", "nerf.levels_on=[]", "nerf.orientation=[]",
    "nerf.resolution=[[0, 16]]", "nerf.blob_density=40", "nerf.conversion.views=6",
    "nerf.conversion.image_size=32", "nerf.conversion.steps=2", "output.turntable_frames=0",
]  # fmt: skip


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


class Foggy(Field):
    """A shape made of fog whose density changes at random from place to place, by up to `noise`
    of itself: 0 outside, `DENSITY` on average within."""

    DENSITY, SLOPE = 60.0, 0.02

    def __init__(self, inside, noise=0.0):
        config = NerfConfig(
            levels=1, log2_entries=15, base_resolution=40, level_scale=1, hidden=16, steps=128
        )
        super().__init__(config, CPU)
        self.inside, self.noise = inside, noise
        rng = torch.Generator().manual_seed(0)
        self.initialize(rng)
        self.load(self.parameters | {"tables": 2 * torch.rand(self.grid.num_entries, 2) - 1})

    def to_density(self, places, raw):
        """World places within the unit ball's box."""
        signed = self.inside((2 * places - 1) * self.config.radius)
        fog = (signed / self.SLOPE).clamp(0, 1) * self.DENSITY
        return fog * (1 + self.noise * super().features(places)[:, 0])


def look(field):
    rng, occupancy = torch.Generator().manual_seed(0), Occupancy(24, CPU)
    with torch.no_grad():
        for _ in range(8):
            occupancy.update(field.density, step_length(field), 0.01, rng)
    return occupancy


def torus(places, tube=0.14):
    around = places[:, :2].norm(dim=1) - 0.55
    return tube - (around.square() + places[:, 2].square()).sqrt()


def solid_ball(places):
    return 0.6 - places.norm(dim=1)


def shell(places):
    return 0.06 - (places.norm(dim=1) - 0.5).abs()


def euler(found):
    """Vertices - edges + faces: 2 for a ball, 0 for a torus."""
    edges = np.sort(np.concatenate([found.faces[:, [0, 1]], found.faces[:, [1, 2]],
                                    found.faces[:, [2, 0]]]), axis=1)  # fmt: skip
    found_edges, counts = np.unique(edges, axis=0, return_counts=True)
    assert (counts == 2).all()  # closed
    return len(found.vertices) - len(found_edges) + len(found.faces)


def volume(found):
    a, b, c = (found.vertices[found.faces[:, k]] for k in range(3))
    return (a * np.cross(b, c)).sum() / 6


def test_a_blob_becomes_a_closed_ball_that_faces_out():
    pytest.importorskip("skimage")
    found = to_mesh.extract(*ball(), voxels=64)
    # Density 400 d at depth d below the radius, so that half is gone where 200 d^2 = ln 2.
    want = 0.5 - math.sqrt(math.log(2) / 200)
    reach = np.linalg.norm(found.vertices, axis=1)
    assert reach == pytest.approx(want, abs=3 / 64)  # one voxel
    assert reach.mean() == pytest.approx(want, abs=0.01)
    outwards = found.vertices / reach[:, None]
    assert ((found.normals * outwards).sum(axis=1) > 0.97).all()
    assert volume(found) == pytest.approx(4 / 3 * math.pi * want**3, rel=0.05)
    assert euler(found) == 2
    assert np.abs(found.colors - 0.5).max() < 0.1


@pytest.mark.parametrize(
    ("shape", "holes", "want"),
    [(solid_ball, 0, lambda d: 4 / 3 * math.pi * (0.6 - d) ** 3),
     (torus, 1, lambda d: 2 * math.pi**2 * 0.55 * (0.14 - d) ** 2),
     (lambda p: torus(p, 0.08), 1, lambda d: 2 * math.pi**2 * 0.55 * (0.08 - d) ** 2),
     (shell, 0, lambda d: 4 / 3 * math.pi * (0.56 - d) ** 3)],
    ids=["ball", "ring", "thin ring", "hollow ball"],
)  # fmt: skip
def test_fog_with_holes_has_the_surface_of_the_shape_that_one_sees(shape, holes, want):
    """No level of a density whose noise is as large as itself is a surface: its level sets are
    full of tunnels."""
    measure = pytest.importorskip("skimage.measure")
    field = Foggy(shape, noise=0.95)
    found = to_mesh.extract(field, look(field), voxels=80)
    assert euler(found) == 2 - 2 * holes
    # Half is gone where 60 (d - .01) = ln 2; where the fog is thin, it lies deeper.
    assert 0.6 < volume(found) / want(0.01 + math.log(2) / Foggy.DENSITY) < 1
    side = torch.linspace(0, 1, 81)
    places = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1).reshape(-1, 3)
    dense = field.density(places).detach().view(81, 81, 81).numpy()
    level_set = dense > np.median(dense[dense > 0])
    assert abs(measure.euler_number(level_set, connectivity=1) - (1 - holes)) > 5


def test_a_thin_bar_stays_where_it_is():
    """Its sides, to half a voxel; its ends become round."""
    pytest.importorskip("skimage")
    bar = Foggy(lambda p: torch.minimum(0.05 - p[:, :2].abs().amax(dim=1), 0.6 - p[:, 2].abs()))
    bar.SLOPE = 1e-3
    found = to_mesh.extract(bar, look(bar), voxels=96)
    reach = np.abs(found.vertices).max(axis=0)
    # exp(-60 d) is a half at d = .0116.
    assert reach[:2] == pytest.approx(0.05 - 0.0116, abs=0.5 * 2 / 96)
    assert reach[2] == pytest.approx(0.6 - 0.0116, abs=2 / 96)


def test_only_what_lies_far_from_occupied_cells_is_not_looked_at():
    field, occupancy = ball()
    deep = to_mesh.solidity(field, occupancy, 32)
    side = torch.linspace(-1.5, 1.5, 33)
    axes = torch.meshgrid(side, side, side, indexing="ij")
    radius = sum(axis.square() for axis in axes).sqrt().numpy()
    assert (deep[radius < 0.38] > 0).all()
    assert (deep[radius > 0.5] < 0).all()


def test_specks_are_dropped():
    tetrahedron = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    corners = np.concatenate([tetrahedron * 0.05 + 5, tetrahedron])
    kept, triangles, used = to_mesh._without_specks(corners, np.concatenate([faces, faces + 4]))
    assert np.array_equal(kept, tetrahedron)
    assert np.array_equal(triangles, faces)
    assert np.array_equal(used, np.arange(4, 8))


def test_an_empty_field_has_no_surface():
    pytest.importorskip("skimage")
    field, occupancy = ball()
    occupancy.load(torch.zeros_like(occupancy.values), 0.01)
    with pytest.raises(UserError, match="nothing of the field is solid"):
        to_mesh.extract(field, occupancy, voxels=16)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(UserError, match=r"scikit-image: pip install 'gs-ssd\[mesh\]'"):
        to_mesh.extract(*ball(), voxels=16)


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
