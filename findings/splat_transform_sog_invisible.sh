#!/usr/bin/env bash
# SOG keeps colours as the RGB and opacity as the alpha of a lossless WebP. Splats whose opacity
# rounds to 0 of 255 lose their colour in the SOG of splat-transform 2.7.1 and 3.7.0 (npm, run on
# 2026-11-28, Node 20, no GPU): its encoder leaves out libwebp's "exact", so transparent pixels
# become black indices and come back as the codebook's first entry. Nothing shows, until such a file
# is trained on, or its opacities are edited.
#
# Output seen (red f_dc of a splat that was sent with 0.5, beside others from -1 to 1):
#   2.7.1  opacity 0.001: -1.00  opacity 0.01: 0.50
#   3.7.0  opacity 0.001: -1.00  opacity 0.01: 0.50
set -euo pipefail
cd "$(mktemp -d)"
for version in 2.7.1 3.7.0; do
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$version" "@playcanvas/splat-transform@$version"
done
cat > files.py <<'PY'
import math, struct, sys
NAMES = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
if sys.argv[1] == "make":
    alphas = {0: 0.001, 1: 0.01}
    head = ["ply", "format binary_little_endian 1.0", "element vertex 64", *(f"property float {n}" for n in NAMES), "end_header", ""]
    rows = b""
    for i in range(64):
        alpha = alphas.get(i, 0.9)
        color = 0.5 if i in alphas else -1 + 2 * (i - 2) / 61
        rows += struct.pack("<14f", i, i % 5, i % 7, color, color, color, math.log(alpha / (1 - alpha)), -4, -4, -4, 1, 0, 0, 0)
    open("in.ply", "wb").write("\n".join(head).encode() + rows)
else:
    data = open(sys.argv[2], "rb").read()
    end = data.index(b"end_header\n") + 11
    names = [line.split()[2] for line in data[:end].decode().splitlines() if line.startswith("property")]
    rows = [struct.unpack_from(f"<{len(names)}f", data, end + 4 * len(names) * i) for i in range(64)]
    first, second = sorted(rows, key=lambda row: row[names.index("x")])[:2]
    red = names.index("f_dc_0")
    print(f"opacity 0.001: {first[red]:.2f}  opacity 0.01: {second[red]:.2f}")
PY
python3 files.py make
for version in 2.7.1 3.7.0; do
  tool() { node "$version/node_modules/@playcanvas/splat-transform/bin/cli.mjs" -q -w -g cpu "$@" >/dev/null 2>&1; }
  tool in.ply a.sog && tool a.sog b.ply
  echo "$version  $(python3 files.py show b.ply)"
done | tee seen
diff seen - <<'EOF'
2.7.1  opacity 0.001: -1.00  opacity 0.01: 0.50
3.7.0  opacity 0.001: -1.00  opacity 0.01: 0.50
EOF
