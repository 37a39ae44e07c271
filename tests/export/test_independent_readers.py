"""Our files as programs see them that we did not write: gsply, pygltflib, usd-core, and under Node
splat-transform and the Khronos validator. `make readers` installs them; each test skips, saying so,
where its reader is missing.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export import splat_transform
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.splats import Splats, sigmoid

VALIDATE = """
const fs = require("fs"), validator = require("gltf-validator");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then((r) => console.log(JSON.stringify(r)));
"""


def match(means: np.ndarray, splats: Splats) -> np.ndarray:
    """For every splat the index of the nearest of `means`: readers may reorder."""
    distances = ((splats.means[:, None] - means[None]) ** 2).sum(axis=-1)
    nearest = distances.argmin(axis=1)
    assert len(set(nearest)) == len(splats)
    return nearest


@pytest.mark.readers
@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("suffix", [".ply", ".spz"])
def test_gsply(tmp_path, make_splats, suffix, degree):
    gsply = pytest.importorskip("gsply", reason="gsply is not installed (pip install gsply)")
    splats = make_splats(100, degree=degree).to_frame("inria" if suffix == ".ply" else "gltf")
    path = tmp_path / f"a{suffix}"
    write_splats(path, splats)
    data = gsply.plyread(str(path)) if suffix == ".ply" else gsply.read_spz(str(path))
    exact = suffix == ".ply"
    assert data.means == pytest.approx(splats.means, abs=1e-6 if exact else 2e-4)
    rotations = rotations_from_quaternions(np.asarray(data.quats, dtype=float))
    assert rotations == pytest.approx(
        rotations_from_quaternions(splats.quats_wxyz), abs=1e-6 if exact else 0.008
    )
    log_scales = data.scales if np.min(data.scales) < 0 else np.log(data.scales)
    assert log_scales == pytest.approx(splats.log_scales, abs=1e-5 if exact else 0.033)
    opacities = sigmoid(data.opacities) if exact or np.ptp(data.opacities) > 1 else data.opacities
    assert opacities == pytest.approx(splats.opacities, abs=1e-6 if exact else 0.004)
    assert data.sh0.reshape(-1, 3) == pytest.approx(splats.sh[:, 0], abs=1e-6 if exact else 0.02)
    if degree:
        assert data.shN.reshape(100, 15, 3) == pytest.approx(
            splats.sh[:, 1:], abs=1e-6 if exact else 0.13
        )


@pytest.mark.readers
@pytest.mark.parametrize("degree", [0, 2])
def test_pygltflib(tmp_path, make_splats, degree):
    pygltflib = pytest.importorskip(
        "pygltflib", reason="pygltflib is not installed (pip install pygltflib)"
    )
    splats = make_splats(60, degree=degree, frame="gltf")
    write_splats(tmp_path / "a.glb", splats, title="a red mug")
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    (primitive,) = gltf.meshes[0].primitives
    assert gltf.extensionsUsed == ["KHR_gaussian_splatting"]
    assert primitive.mode == pygltflib.POINTS
    extension = primitive.extensions["KHR_gaussian_splatting"]
    assert (extension["kernel"], extension["colorSpace"]) == ("ellipse", "srgb_rec709_display")
    attributes = vars(primitive.attributes)

    def values(name: str, width: int) -> np.ndarray:
        view = gltf.bufferViews[gltf.accessors[attributes[name]].bufferView]
        raw = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        return np.frombuffer(raw, "<f4").reshape(-1, width)

    prefix = "KHR_gaussian_splatting:"
    assert values("POSITION", 3) == pytest.approx(splats.means)
    assert values(prefix + "SCALE", 3) == pytest.approx(splats.scales, rel=1e-6)
    assert values(prefix + "OPACITY", 1)[:, 0] == pytest.approx(splats.opacities, abs=1e-6)
    assert values(prefix + "ROTATION", 4) == pytest.approx(
        np.roll(splats.unit_quats_wxyz, -1, axis=1), abs=1e-6
    )
    assert values(prefix + f"SH_DEGREE_{degree}_COEF_0", 3) == pytest.approx(
        splats.sh[:, degree**2]
    )


@pytest.mark.readers
def test_khronos_validator_knows_no_other_fault_than_the_new_extension(
    tmp_path, make_splats, node_package
):
    package = node_package("gltf-validator")
    write_splats(tmp_path / "a.glb", make_splats(60, degree=1))
    environment = {**os.environ, "NODE_PATH": str(package.parent)}
    done = subprocess.run(
        ["node", "-e", VALIDATE, str(tmp_path / "a.glb")],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    report = json.loads(done.stdout)
    codes = {message["code"] for message in report["issues"]["messages"]}
    assert codes <= {"UNSUPPORTED_EXTENSION", "MESH_PRIMITIVE_INVALID_ATTRIBUTE"}, codes
    assert (
        report["issues"]["numErrors"] == 7
    )  # one for each attribute of the extension, at degree 1
    assert report["info"]["totalVertexCount"] == 60


@pytest.mark.readers
@pytest.mark.parametrize("suffix", [".usda", ".usdc"])
def test_usd_core(tmp_path, make_splats, suffix):
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed (pip install usd-core)")
    from pxr import UsdGeom, UsdVol

    splats = make_splats(50, degree=1, frame="world")
    write_splats(tmp_path / f"a{suffix}", splats, title="1 red mug")
    splats = splats.to_frame("gltf")
    stage = usd.Stage.Open(str(tmp_path / f"a{suffix}"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    field = UsdVol.ParticleField3DGaussianSplat(stage.GetDefaultPrim())
    assert np.array(field.GetPositionsAttr().Get()) == pytest.approx(splats.means)
    assert np.array(field.GetScalesAttr().Get()) == pytest.approx(splats.scales, rel=1e-6)
    assert np.array(field.GetOpacitiesAttr().Get()) == pytest.approx(splats.opacities, abs=1e-6)
    wxyz = [[q.GetReal(), *q.GetImaginary()] for q in field.GetOrientationsAttr().Get()]
    assert np.array(wxyz) == pytest.approx(splats.unit_quats_wxyz, abs=1e-6)
    assert field.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 1
    coefficients = np.array(field.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()).reshape(
        50, 4, 3
    )
    assert coefficients == pytest.approx(splats.sh)
    assert usd.ColorSpaceAPI(field.GetPrim()).GetColorSpaceNameAttr().Get() == "srgb_rec709_scene"


@pytest.mark.readers
@pytest.mark.parametrize("degree", [0, 3])
def test_nvidias_checker_of_splats(tmp_path, make_splats, degree):
    validation = pytest.importorskip(
        "usd_validation_nvidia", reason="usd-validation-nvidia is not installed"
    )
    from pxr import Usd
    from usd_validation_nvidia.rules import GaussianSplatSchemaChecker

    write_splats(tmp_path / "a.usdc", make_splats(50, degree=degree))
    engine = validation.ValidationEngine(init_rules=False)
    engine.enable_rule(GaussianSplatSchemaChecker)  # VG.035
    assert [issue.message for issue in engine.validate(str(tmp_path / "a.usdc")).issues()] == []
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    stage.GetDefaultPrim().GetAttribute("opacities").Set([2.0] * 50)  # it does look
    assert "Opacity" in str([issue.message for issue in engine.validate(stage).issues()])


@pytest.fixture
def transform(monkeypatch, node_package) -> str:
    path = node_package("@playcanvas/splat-transform") / "bin/cli.mjs"
    monkeypatch.setenv(splat_transform.VARIABLE, str(path))
    return str(path)


@pytest.mark.readers
@pytest.mark.parametrize("suffix", [".ply", ".spz", ".splat"])
def test_splat_transform_reads_ours(tmp_path, make_splats, transform, suffix):
    splats = make_splats(80, degree=3 if suffix != ".splat" else 0)
    splats.sh[:] = splats.sh.clip(-0.9, 0.9)
    write_splats(tmp_path / f"a{suffix}", splats)
    out = tmp_path / "back.ply"
    command = ["node", transform, "-q", "-w", "-g", "cpu", str(tmp_path / f"a{suffix}"), str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    back = read_splats(out)
    back = back.take(match(back.means, splats))
    exact = suffix == ".ply"
    assert back.means == pytest.approx(
        splats.means, abs=1e-6 if exact or suffix == ".splat" else 2e-4
    )
    ours, theirs = (rotations_from_quaternions(s.quats_wxyz) for s in (splats, back))
    limit = {".ply": 1e-5, ".spz": 0.008, ".splat": 0.04}[suffix]
    # Axes up to their sign: an ellipsoid does not know it, and turning SPZ to INRIA's frame flips
    # some.
    assert np.abs(ours.transpose(0, 2, 1) @ theirs) == pytest.approx(
        np.broadcast_to(np.eye(3), ours.shape), abs=limit
    )
    assert back.log_scales == pytest.approx(
        splats.log_scales, abs=0.033 if suffix == ".spz" else 1e-5
    )
    assert back.opacities == pytest.approx(splats.opacities, abs=1e-6 if exact else 0.004)
    if suffix != ".splat":
        assert back.sh == pytest.approx(splats.sh, abs=1e-5 if exact else 0.13)


def fake_program(folder: Path, script: str) -> str:
    path = folder / "splat-transform"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "not installed"),
        ("echo 'splat-transform v1.9.0'", "1.9.0"),
        ("echo what", "what"),
        ("exit 3", "does not run"),
        ('[ "$1" = --version ] && echo v3.0.0 && exit 0; echo boom >&2; exit 1', "boom"),
        ('[ "$1" = --version ] && echo v3.0.0; exit 0', "could not write"),
    ],
)
def test_splat_transform_missing_old_or_failing(tmp_path, monkeypatch, script, words):
    monkeypatch.delenv(splat_transform.VARIABLE, raising=False)
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv(splat_transform.VARIABLE, fake_program(tmp_path, script))
    with pytest.raises(UserError, match=words):
        splat_transform.convert(axes_object().to_frame("inria"), tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_usd_says_what_is_missing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pxr.Gf", None)
    with pytest.raises(UserError, match="pip install"):
        write_splats(tmp_path / "a.usda", axes_object())
