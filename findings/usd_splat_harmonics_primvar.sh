#!/usr/bin/env bash
# OpenUSD's own class for splats leaves their harmonics in a form that NVIDIA's checker refuses.
#
# usd-core 26.11:
# UsdVol.ParticleField3DGaussianSplat.CreateRadianceSphericalHarmonicsCoefficientsAttr authors the
# coefficients of all splats as one array. Nothing in the class says how many belong to a splat:
# read as a primvar the attribute has interpolation "constant" and element size 1, whatever
# sphericalHarmonicsDegree is. usd-validation-nvidia 1.22.0 (rule GaussianSplatSchemaChecker,
# VG.035) wants "vertex" and (degree + 1)^2, and fails the file; with both set by hand it is
# content.
#
# Seen (2 splats of degree 1):
#   as the class writes it: constant 1
#     SH coefficients primvar interpolation is 'constant', expected 'vertex'.
#     SH elementSize is 1 but degree 1 expects 4.
#     SH coefficients array has 8 elements, expected 2 x 1 = 2.
#   with both set: vertex 4
#     nothing
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q usd-core==26.11 numpy
"$work/venv/bin/pip" install -q --no-deps usd-validation-nvidia==1.22.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
from pxr import Gf, Usd, UsdGeom, UsdVol, Vt
from usd_validation_nvidia import ValidationEngine
from usd_validation_nvidia.rules import GaussianSplatSchemaChecker


def check(name, complete):
    stage = Usd.Stage.CreateNew(name)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    splats = UsdVol.ParticleField3DGaussianSplat.Define(stage, "/splats")
    stage.SetDefaultPrim(splats.GetPrim())
    splats.CreatePositionsAttr(Vt.Vec3fArray([(0, 0, 0), (1, 0, 0)]))
    splats.CreateScalesAttr(Vt.Vec3fArray([(0.1, 0.1, 0.1)] * 2))
    splats.CreateOrientationsAttr(Vt.QuatfArray([Gf.Quatf(1, 0, 0, 0)] * 2))
    splats.CreateOpacitiesAttr(Vt.FloatArray([0.5, 0.5]))
    splats.CreateExtentAttr([(-0.3, -0.3, -0.3), (1.3, 0.3, 0.3)])
    splats.CreateRadianceSphericalHarmonicsDegreeAttr(1)
    attribute = splats.CreateRadianceSphericalHarmonicsCoefficientsAttr(Vt.Vec3fArray([(0, 0, 0)] * 8))
    primvar = UsdGeom.Primvar(attribute)
    if complete:
        primvar.SetInterpolation(UsdGeom.Tokens.vertex)
        primvar.SetElementSize(4)
    stage.Save()
    engine = ValidationEngine(init_rules=False)
    engine.enable_rule(GaussianSplatSchemaChecker)
    found = [issue.message for issue in engine.validate(name).issues()]
    print(primvar.GetInterpolation(), primvar.GetElementSize(), *found, sep="\n  ")
    return primvar.GetInterpolation(), primvar.GetElementSize(), found


interpolation, size, found = check("plain.usda", complete=False)
assert (interpolation, size) == ("constant", 1)
assert len(found) == 3 and any("expected 'vertex'" in message for message in found), found
assert check("complete.usda", complete=True) == ("vertex", 4, [])
PY
