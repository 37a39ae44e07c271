#!/usr/bin/env bash
# splat-transform changed what an SPZ file means to it, between 2.7.1 and 3.7.0 (npm, run on
# 2026-11-28, Node 20).
#
# The SPZ text says: without the extension 0xADBE0003 the numbers are RUB (x right, y up, z back);
# PLY is RDF.
#   2.7.1  turns by 180 degrees about x on the way in and out: SPZ (1,2,3) -> PLY (1,-2,-3), PLY (1,2,3) -> SPZ (1,-2,-3),
#          and honours the extension: SPZ (1,2,3) that says RDF -> PLY (1,2,3).
#   3.7.0  copies the numbers in all of these cases, ignores the extension and writes none: its SPZ 4 claims RUB
#          (by saying nothing) and holds RDF, so readers that follow the text show it upside down.
# A version 4 file that holds RDF and says so comes out right of both.
#
# Output seen:
#   2.7.1  spz->ply (1,-2,-3)  spz that says RDF->ply (1,2,3)  ply->spz (1,-2,-3)
#   3.7.0  spz->ply (1,2,3)  spz that says RDF->ply (1,2,3)  ply->spz (1,2,3)
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env && env/bin/pip --quiet install zstandard==0.25.0
for version in 2.7.1 3.7.0; do
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$version" "@playcanvas/splat-transform@$version"
done
cat > files.py <<'PY'
import struct, sys, zstandard

def spz(extension):
    streams = [b"".join((v * 4096).to_bytes(3, "little", signed=True) for v in (1, 2, 3)), b"\xc8", b"\x80" * 3,
               b"\x60" * 3, struct.pack("<I", 3 << 30)]
    packed = [zstandard.compress(s) for s in streams]
    head = struct.pack("<IIIBBBBI12x", 0x5053474E, 4, 1, 0, 12, 2 if extension else 0, 5, 32 + len(extension))
    table = b"".join(struct.pack("<QQ", len(p), len(s)) for p, s in zip(packed, streams))
    return head + extension + table + b"".join(packed)

NAMES = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()

def position(path):
    data = open(path, "rb").read()
    if data[:3] == b"ply":
        body = data[data.index(b"end_header\n") + 11:]
        return struct.unpack_from("<3f", body)  # x, y, z come first in what splat-transform writes
    offset, = struct.unpack_from("<I", data, 16)
    size, = struct.unpack_from("<Q", data, offset)
    start = offset + 16 * data[15]
    raw = zstandard.decompress(data[start:start + size])
    return [int.from_bytes(raw[3 * i:3 * i + 3], "little", signed=True) / 2 ** data[13] for i in range(3)]

if sys.argv[1] == "make":
    open("plain.spz", "wb").write(spz(b""))
    open("says_rdf.spz", "wb").write(spz(struct.pack("<III", 0xADBE0003, 4, 6)))
    head = ["ply", "format binary_little_endian 1.0", "element vertex 1", *(f"property float {n}" for n in NAMES), "end_header"]
    row = struct.pack("<14f", 1, 2, 3, 0, 0, 0, 1, -4, -4, -4, 1, 0, 0, 0)
    open("in.ply", "wb").write("\n".join([*head, ""]).encode() + row)
else:
    print("(" + ",".join(f"{round(v):d}" for v in position(sys.argv[2])) + ")")
PY
env/bin/python files.py make
for version in 2.7.1 3.7.0; do
  turn() { node "$version/node_modules/@playcanvas/splat-transform/bin/cli.mjs" -q -w -g cpu "$1" "$2" >/dev/null 2>&1; env/bin/python files.py show "$2"; }
  echo "$version  spz->ply $(turn plain.spz a.ply)  spz that says RDF->ply $(turn says_rdf.spz b.ply)  ply->spz $(turn in.ply c.spz)"
done | tee seen
diff seen - <<'EOF'
2.7.1  spz->ply (1,-2,-3)  spz that says RDF->ply (1,2,3)  ply->spz (1,-2,-3)
3.7.0  spz->ply (1,2,3)  spz that says RDF->ply (1,2,3)  ply->spz (1,2,3)
EOF
