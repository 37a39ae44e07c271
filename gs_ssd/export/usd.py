"""OpenUSD: one `ParticleField3DGaussianSplat` prim (OpenUSD 26.03 and later), y up.

Needs the extra `usd`."""

import importlib
import os
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path


def write_usd(path: str | os.PathLike[str], splats: Splats, *, name: str = "splat") -> None:
    """Write `.usda`, `.usdc` or `.usd` by suffix; `splats` are to be in the glTF frame.

    Raises:
        UserError: usd-core is missing or older than 26.3.
    """
    try:
        modules = (
            importlib.import_module(f"pxr.{module}")
            for module in ("Gf", "Usd", "UsdGeom", "UsdVol", "Vt")
        )
        Gf, Usd, UsdGeom, UsdVol, Vt = modules
    except ImportError as error:
        raise UserError("USD files need usd-core: pip install 'gs-ssd[usd]'") from error
    if not hasattr(UsdVol, "ParticleField3DGaussianSplat"):
        raise UserError("this usd-core does not know Gaussian splats: pip install 'usd-core>=26.3'")
    prim_name = "".join(c if c.isascii() and c.isalnum() else "_" for c in name) or "splat"
    prim_name = f"_{prim_name}" if prim_name[0].isdigit() else prim_name
    with atomic_path(path) as temporary:
        stage = Usd.Stage.CreateInMemory()
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        field = UsdVol.ParticleField3DGaussianSplat.Define(stage, f"/{prim_name}")
        stage.SetDefaultPrim(field.GetPrim())
        xyzw = np.roll(splats.unit_quats_wxyz, -1, axis=1)
        field.CreatePositionsAttr(Vt.Vec3fArray.FromNumpy(splats.means))
        field.CreateOrientationsAttr(
            Vt.QuatfArray.FromNumpy(np.ascontiguousarray(xyzw, dtype=np.float32))
        )
        field.CreateScalesAttr(Vt.Vec3fArray.FromNumpy(splats.scales.astype(np.float32)))
        field.CreateOpacitiesAttr(Vt.FloatArray.FromNumpy(splats.opacities.astype(np.float32)))
        field.CreateRadianceSphericalHarmonicsDegreeAttr(splats.sh_degree)
        coefficients = field.CreateRadianceSphericalHarmonicsCoefficientsAttr(
            Vt.Vec3fArray.FromNumpy(splats.sh.reshape(-1, 3))
        )
        primvar = UsdGeom.Primvar(
            coefficients
        )  # unset, each would mean a single coefficient for all
        primvar.SetInterpolation(UsdGeom.Tokens.vertex)
        primvar.SetElementSize(splats.sh.shape[1])
        space = Usd.ColorSpaceAPI.Apply(field.GetPrim())
        space.CreateColorSpaceNameAttr(Gf.ColorSpaceNames.SRGBRec709)
        reach = 3 * splats.scales.max(axis=1, keepdims=True)
        low, high = (splats.means - reach).min(axis=0), (splats.means + reach).max(axis=0)
        field.CreateExtentAttr([Gf.Vec3f(*low.tolist()), Gf.Vec3f(*high.tolist())])
        if not stage.GetRootLayer().Export(str(temporary)) or not Path(temporary).stat().st_size:
            raise UserError(f"cannot write {path}: usd-core refused")
