#!/usr/bin/env bash
# Opacity does not survive KHR_gaussian_splatting (GLB) or UsdVol.ParticleField3DGaussianSplat,
# exact as both look: PLY keeps the logit, they keep a float32 between 0 and 1. Near 1 its steps are
# 6e-8, so logits above about 9 come back changed, and above 17 the opacity is 1 and its logit
# infinite. Near 0 nothing is lost. (splat-transform 3.7.0 on npm, usd-core 26.11 on PyPI; run on
# 2026-11-28, Node 20, Python 3.11)
#
# Output seen (logit sent: logit of what the file holds):
#   glb   -18: -18.0000   5: 5.0000   10: 9.9995   14: 13.9965   18: inf
#   usd   -18: -18.0000   5: 5.0000   10: 9.9995   14: 13.9965   18: inf
set -euo pipefail
cd "$(mktemp -d)"
npm install --silent --no-audit --no-fund --ignore-scripts @playcanvas/splat-transform@3.7.0
python3 -m venv env && env/bin/pip --quiet install usd-core==26.11 numpy==2.4.6
cat > opacity.py <<'PY'
import json, math, struct, sys
import numpy as np
from pxr import Usd, UsdVol, Vt

LOGITS = [-18.0, 5.0, 10.0, 14.0, 18.0]
NAMES = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()

def say(name, alphas):
    logits = [math.inf if a == 1 else math.log(a) - math.log1p(-a) for a in map(float, alphas)]
    print(f"{name}  ", "   ".join(f"{sent:.0f}: {back:.4f}" for sent, back in zip(LOGITS, logits)))

if sys.argv[1] == "make":
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(LOGITS)}", *(f"property float {n}" for n in NAMES)]
    rows = b"".join(struct.pack("<14f", i, 0, 0, 0, 0, 0, logit, -4, -4, -4, 1, 0, 0, 0) for i, logit in enumerate(LOGITS))
    open("in.ply", "wb").write("\n".join([*head, "end_header", ""]).encode() + rows)
else:
    data = open("out.glb", "rb").read()
    length, = struct.unpack_from("<I", data, 12)
    document = json.loads(data[20:20 + length])
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    def column(name, width):
        accessor = document["accessors"][attributes[name]]
        view = document["bufferViews"][accessor["bufferView"]]
        start = 28 + length + view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        return np.frombuffer(data, "<f4", width * accessor["count"], start).reshape(-1, width)
    order = np.argsort(column("POSITION", 3)[:, 0])
    order = order[::-1] if column("POSITION", 3)[order[0], 0] < 0 else order
    say("glb", column("KHR_gaussian_splatting:OPACITY", 1)[order, 0])
    stage = Usd.Stage.CreateNew("out.usda")
    field = UsdVol.ParticleField3DGaussianSplat.Define(stage, "/splat")
    sigmoid = (1 / (1 + np.exp(-np.array(LOGITS)))).astype(np.float32)
    field.CreateOpacitiesAttr(Vt.FloatArray.FromNumpy(sigmoid))
    stage.Save()
    opened = Usd.Stage.Open("out.usda")
    back = UsdVol.ParticleField3DGaussianSplat(opened.GetPrimAtPath("/splat"))
    say("usd", np.array(back.GetOpacitiesAttr().Get()))
PY
env/bin/python opacity.py make
node node_modules/@playcanvas/splat-transform/bin/cli.mjs -q -w -g cpu in.ply out.glb >/dev/null 2>&1
env/bin/python opacity.py show | tee seen
diff seen - <<'EOF'
glb   -18: -18.0000   5: 5.0000   10: 9.9995   14: 13.9965   18: inf
usd   -18: -18.0000   5: 5.0000   10: 9.9995   14: 13.9965   18: inf
EOF
