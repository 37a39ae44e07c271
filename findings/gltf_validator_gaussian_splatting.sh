#!/usr/bin/env bash
# The Khronos glTF validator on npm (gltf-validator 2.0.0-dev.3.10, its newest there; run on
# 2026-11-28, Node 20) calls every valid KHR_gaussian_splatting file invalid: one *error* for each
# attribute of the extension, beside one *information* that the extension is unknown. At degree 0
# that is 4 errors (ROTATION, SCALE, OPACITY, SH_DEGREE_0_COEF_0), at degree 1 three more (7), at
# degree 3 fifteen more (19). A gate on "no errors" therefore never passes; a gate on "no code but
# these two" does.
#
# Output seen:
#   degree 0: 4 errors, MESH_PRIMITIVE_INVALID_ATTRIBUTE UNSUPPORTED_EXTENSION
#   degree 1: 7 errors, MESH_PRIMITIVE_INVALID_ATTRIBUTE UNSUPPORTED_EXTENSION
#   degree 3: 19 errors, MESH_PRIMITIVE_INVALID_ATTRIBUTE UNSUPPORTED_EXTENSION
set -euo pipefail
cd "$(mktemp -d)"
npm install --silent --no-audit --no-fund --ignore-scripts gltf-validator@2.0.0-dev.3.10
cat > check.cjs <<'JS'
const validator = require("gltf-validator");
const NAME = "KHR_gaussian_splatting";
function glb(degree) {
  const columns = [["POSITION", "VEC3", [0, 0, 0]], [`${NAME}:ROTATION`, "VEC4", [0, 0, 0, 1]],
    [`${NAME}:SCALE`, "VEC3", [0.1, 0.1, 0.1]], [`${NAME}:OPACITY`, "SCALAR", [0.9]]];
  for (let band = 0; band <= degree; band++)
    for (let n = 0; n <= 2 * band; n++) columns.push([`${NAME}:SH_DEGREE_${band}_COEF_${n}`, "VEC3", [0.1, 0.2, 0.3]]);
  const values = [], views = [], accessors = [], attributes = {};
  columns.forEach(([name, type, row], i) => {
    views.push({ buffer: 0, byteOffset: 4 * values.length, byteLength: 4 * row.length, target: 34962 });
    accessors.push({ bufferView: i, componentType: 5126, count: 1, type, ...(i ? {} : { min: row, max: row }) });
    attributes[name] = i;
    values.push(...row);
  });
  const extensions = { [NAME]: { kernel: "ellipse", colorSpace: "srgb_rec709_display", projection: "perspective",
    sortingMethod: "cameraDistance" } };
  const json = { asset: { version: "2.0" }, extensionsUsed: [NAME], scene: 0, scenes: [{ nodes: [0] }], nodes: [{ mesh: 0 }],
    meshes: [{ primitives: [{ mode: 0, attributes, extensions }] }], accessors, bufferViews: views,
    buffers: [{ byteLength: 4 * values.length }] };
  let text = JSON.stringify(json);
  text = text.padEnd(4 * Math.ceil(text.length / 4));
  const data = Buffer.from(new Float32Array(values).buffer);
  const head = Buffer.alloc(20);
  [0x46546c67, 2, 28 + text.length + data.length, text.length, 0x4e4f534a].forEach((w, i) => head.writeUInt32LE(w, 4 * i));
  const chunk = Buffer.alloc(8);
  chunk.writeUInt32LE(data.length, 0); chunk.writeUInt32LE(0x004e4942, 4);
  return new Uint8Array(Buffer.concat([head, Buffer.from(text), chunk, data]));
}
(async () => {
  for (const degree of [0, 1, 3]) {
    const { issues } = await validator.validateBytes(glb(degree));
    const codes = [...new Set(issues.messages.map((m) => m.code))].sort();
    console.log(`degree ${degree}: ${issues.numErrors} errors, ${codes.join(" ")}`);
  }
})();
JS
node check.cjs | tee seen
diff seen - <<'EOF'
degree 0: 4 errors, MESH_PRIMITIVE_INVALID_ATTRIBUTE UNSUPPORTED_EXTENSION
degree 1: 7 errors, MESH_PRIMITIVE_INVALID_ATTRIBUTE UNSUPPORTED_EXTENSION
degree 3: 19 errors, MESH_PRIMITIVE_INVALID_ATTRIBUTE UNSUPPORTED_EXTENSION
EOF
