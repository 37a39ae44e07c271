#!/usr/bin/env bash
# SPZ's own library turns four of its sixteen named axes by 180 degrees about x (@adobe/spz 0.2.3 on
# npm, which is nianticlabs/spz as WebAssembly with extensions; run on 2026-11-28, Node 20).
#
# Its README: "letters denote the X, Y, Z axis directions". A point (1,2,3) in RBU lies 1 to the
# right, 2 back and 3 up, so in RUB it is (1,3,2). The library says (1,-3,-2): up became down. The
# same holds for LFD, RFD and LBU; the other twelve are as named. Saving and loading through the
# library cancel, so only files of other writers show it.
#
# Output seen: differ from their names: LFD RFD LBU RBU
set -euo pipefail
cd "$(mktemp -d)"
npm install --silent --no-audit --no-fund --ignore-scripts @adobe/spz@0.2.3
cat > axes.mjs <<'JS'
import createModule from "@adobe/spz";
const spz = await createModule({ print() {}, printErr() {} });
console.log = ((log) => (text) => String(text).startsWith("[SPZ]") || log(text))(console.log);
const NAMES = "LDB RDB LUB RUB LDF RDF LUF RUF LFD RFD LFU RFU LBD RBD LBU RBU".split(" ");
const ALONG = { R: [0, 1], L: [0, -1], U: [1, 1], D: [1, -1], B: [2, 1], F: [2, -1] };
const cloud = { numPoints: 1, shDegree: 0, antialiased: false, extensions: [], positions: new Float32Array([1, 2, 3]),
  scales: new Float32Array(3), rotations: new Float32Array([0, 0, 0, 1]), alphas: new Float32Array(1),
  colors: new Float32Array(3), sh: new Float32Array() };
const plain = spz.saveSpzToBuffer(cloud, { version: 4, from: spz.CoordinateSystem.UNSPECIFIED, sh1Bits: 5, shRestBits: 4 });
const differ = [];
NAMES.forEach((name, index) => {
  const bytes = new Uint8Array(plain.length + 12), view = new DataView(bytes.buffer);
  bytes.set(plain.subarray(0, 32)); bytes.set(plain.subarray(32), 44);
  bytes[14] |= 2; view.setUint32(16, 44, true);  // "has extensions"; the table of contents lies behind this one
  [0xadbe0003, 4, index + 1].forEach((word, i) => view.setUint32(32 + 4 * i, word, true));
  const wanted = [0, 0, 0];
  [...name].forEach((letter, i) => { const [axis, sign] = ALONG[letter]; wanted[axis] = sign * (i + 1); });
  const got = Array.from(spz.loadSpzFromBuffer(bytes, { to: spz.CoordinateSystem.RUB }).positions, Math.round);
  if (got.some((value, i) => value !== wanted[i])) differ.push(name);
});
console.log("differ from their names: " + differ.join(" "));
JS
node axes.mjs | tee seen
[ "$(cat seen)" = "differ from their names: LFD RFD LBU RBU" ]
