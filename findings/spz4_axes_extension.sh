#!/usr/bin/env bash
# An SPZ 4 file may say in an extension which axes it is in. Readers of SPZ 4 differ in whether they
# look.
#
# The file made here holds one splat at (1, 2, 3) in right-up-back axes, stored as right-down-front,
# so as (1, -2, -3), with extension 0xADBE0003 = 6 and flag 2. The format's own library (@adobe/spz
# 0.2.3) gives (1, 2, 3) when asked for right-up-back. Of the others,
#
#   three 0.187.0 (SPZLoader)   1 -2 -3, and warns that extensions are skipped: shown upside down
#   gsply 0.4.6                 1 -2 -3, and says nothing
#   spz-js 1.2.5                TypeError: it reads no version 4
#
# so a file that is upright in all that read version 4 has to be in right-up-back axes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @adobe/spz@0.2.3 three@0.187.0 spz-js@1.2.5
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q gsply==0.4.6 zstandard==0.25.0
cat > read.mjs <<'JS'
import fs from "node:fs";
const bytes = new Uint8Array(fs.readFileSync("a.spz"));
const library = await (await import("@adobe/spz")).default();
const log = console.log, warnings = [];
console.log = () => {};
const cloud = library.loadSpzFromBuffer(bytes, { to: library.CoordinateSystem.RUB });
console.log = log;
console.log("@adobe/spz", ...cloud.positions);
console.warn = (text) => warnings.push(text);
const { SPZLoader } = await import("three/addons/loaders/SPZLoader.js");
const geometry = await new SPZLoader().parse(bytes.buffer);
const name = Object.keys(geometry.attributes).find((key) => /position|center/i.test(key) && geometry.attributes[key].count === 1);
console.log("three", ...geometry.attributes[name].array.slice(0, 3), warnings.length ? "warned" : "");
const { loadSpz } = await import("spz-js");
console.error = () => {};
console.log("spz-js", await loadSpz(Buffer.from(bytes)).then((found) => found.numPoints, (error) => error.name));
JS
venv/bin/python - <<'PY' | tee out.txt
import struct
import subprocess

import zstandard

fixed = b"".join(int(value * 4096).to_bytes(3, "little", signed=True) for value in (1, -2, -3))
streams = [fixed, b"\xc0", b"\x80" * 3, b"\x70" * 3, struct.pack("<I", 3 << 30)]
packed = [zstandard.compress(stream) for stream in streams]
extension = struct.pack("<III", 0xADBE0003, 4, 6)
header = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 1, 0, 12, 2, len(streams), 32 + len(extension))
table = b"".join(struct.pack("<QQ", len(small), len(stream)) for small, stream in zip(packed, streams))
open("a.spz", "wb").write(header + extension + table + b"".join(packed))
print(subprocess.run(["node", "read.mjs"], check=True, capture_output=True, text=True).stdout, end="")
import gsply

print("gsply", *gsply.read_spz("a.spz").means[0].tolist())
PY
grep -qx "@adobe/spz 1 2 3" out.txt
grep -qx "three 1 -2 -3 warned" out.txt
grep -qx "spz-js TypeError" out.txt
grep -qx "gsply 1.0 -2.0 -3.0" out.txt
