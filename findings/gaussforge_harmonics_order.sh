#!/usr/bin/env bash
# gaussforge 0.6.0 (PyPI, run on 2026-11-28, Python 3.11) writes the harmonics of compressed PLY in
# another order than it reads them.
#
# f_rest of a PLY is channel-major: all red, then all green, then all blue; so it is in PlayCanvas's
# compressed PLY, and so gaussforge reads both. When it writes compressed PLY it stores red, green
# and blue of each coefficient in turn. PLY -> compressed PLY -> PLY through gaussforge alone
# therefore mixes the channels; PLY -> SOG -> PLY does not.
#
# Output seen (f_rest of one splat of degree 1, sent as the first line):
#   sent            -0.9 -0.7 -0.5 -0.1 0.1 0.3 0.5 0.7 0.9
#   compressed.ply  -0.9 -0.1 0.5 -0.7 0.1 0.7 -0.5 0.3 0.9
#   sog             -0.9 -0.7 -0.5 -0.1 0.1 0.3 0.5 0.7 0.9
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env && env/bin/pip --quiet install gaussforge==0.6.0
env/bin/python - <<'PY' | tee seen
import struct
import gaussforge

SENT = [-0.9, -0.7, -0.5, -0.1, 0.1, 0.3, 0.5, 0.7, 0.9]
NAMES = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(9)), "opacity",
         *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
head = ["ply", "format binary_little_endian 1.0", "element vertex 1", *(f"property float {n}" for n in NAMES), "end_header", ""]
row = [1, 2, 3, 0, 0, 0, 0, 0, 0, *SENT, 1, -4, -4, -4, 1, 0, 0, 0]
ply = "\n".join(head).encode() + struct.pack(f"<{len(row)}f", *row)

def rest(data):
    end = data.index(b"end_header\n") + 11
    names = [line.split()[2] for line in data[:end].decode().splitlines() if line.startswith("property")]
    values = struct.unpack_from(f"<{len(names)}f", data, end)
    return " ".join(f"{values[names.index(f'f_rest_{i}')]:.1f}" for i in range(9))

forge = gaussforge.GaussForge()
print("sent           ", rest(ply))
for name in ("compressed.ply", "sog"):
    there = bytes(forge.convert(ply, "ply", name)["data"])
    print(f"{name:<15}", rest(bytes(forge.convert(there, name, "ply")["data"])))
PY
diff seen - <<'EOF'
sent            -0.9 -0.7 -0.5 -0.1 0.1 0.3 0.5 0.7 0.9
compressed.ply  -0.9 -0.1 0.5 -0.7 0.1 0.7 -0.5 0.3 0.9
sog             -0.9 -0.7 -0.5 -0.1 0.1 0.3 0.5 0.7 0.9
EOF
