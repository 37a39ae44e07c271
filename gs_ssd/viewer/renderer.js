// WebGL2 splatting. Each Gaussian is projected as in EWA splatting (Zwicker et al. 2001) with the
// 0.3 pixel low-pass of 3DGS (Kerbl et al. 2023), drawn as a quad that covers alpha >= 1/255, and
// blended far to near, premultiplied, on display-referred sRGB values. Layout of the textures: see
// pack.py.
const TEXELS_PER_ROW = 2048;

const VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D base, harmonics, carried;
uniform highp sampler2D joints;
uniform bool moves;
uniform mat4 view;
uniform vec3 eye;
uniform vec2 viewport, tanHalf;
uniform float focal;
uniform vec3 shRange;
uniform int shDegree, shTexels;
layout(location = 0) in uint index;
out vec2 offset;
out vec4 color;

uvec4 texel(usampler2D map, uint i) {
  return texelFetch(map, ivec2(i % ${TEXELS_PER_ROW}u, i / ${TEXELS_PER_ROW}u), 0);
}

mat3 rotation(uint first, uint rest) {
  vec3 small = vec3(first & 32767u, rest & 32767u, (rest >> 15) & 32767u) * (1.41421356 / 32767.0) - 0.70710678;
  float large = sqrt(max(0.0, 1.0 - dot(small, small)));
  uint which = rest >> 30;
  vec4 q = which == 0u ? vec4(large, small) : which == 1u ? vec4(small.x, large, small.yz)
         : which == 2u ? vec4(small.xy, large, small.z) : vec4(small, large);  // w x y z
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
              2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
              2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

vec4 joint(uint number, int row) {
  return texelFetch(joints, ivec2(4 * int(number) + row, 0), 0);
}

// Where a splat's joints take it, and its turn: quaternions are averaged on the side of the first,
// which is the heaviest.
void carry(uint splat, inout vec3 mean, out mat3 turn) {
  turn = mat3(1.0);
  if (!moves) return;
  uvec4 words = texel(carried, splat);
  vec3 moved = vec3(0.0);
  vec4 first = joint(words.x & 65535u, 0), sum = vec4(0.0);
  for (int k = 0; k < 4; k++) {
    int shift = 16 * (k & 1);
    uint number = (words[k >> 1] >> shift) & 65535u;
    float weight = float((words[2 + (k >> 1)] >> shift) & 65535u) / 65535.0;
    vec4 here = vec4(mean, 1.0), q = joint(number, 0);
    moved += weight * vec3(dot(joint(number, 1), here), dot(joint(number, 2), here), dot(joint(number, 3), here));
    sum += (dot(q, first) < 0.0 ? -weight : weight) * q;
  }
  mean = moved;
  vec4 q = normalize(sum);
  float x = q.x, y = q.y, z = q.z, w = q.w;
  turn = mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
              2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
              2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

uint bytes[12];  // this splat's harmonics, 48 signed bytes

void fetchHarmonics(uint splat) {
  for (int i = 0; i < shTexels; i++) {
    uvec4 words = texel(harmonics, splat * uint(shTexels) + uint(i));
    bytes[4 * i] = words.x;
    bytes[4 * i + 1] = words.y;
    bytes[4 * i + 2] = words.z;
    bytes[4 * i + 3] = words.w;
  }
}

float signedByte(int n) {
  return float(int(bytes[n >> 2] << (24 - 8 * (n & 3))) >> 24) / 127.0;
}

vec3 coefficient(int n) {  // n-th after the constant one
  return vec3(signedByte(3 * n), signedByte(3 * n + 1), signedByte(3 * n + 2));
}

vec3 viewDependent(uint splat, vec3 d) {
  fetchHarmonics(splat);
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  vec3 sum = shRange.x * 0.48860251 * (-y * coefficient(0) + z * coefficient(1) - x * coefficient(2));
  if (shDegree > 1) sum += shRange.y * (1.09254843 * (x * y * coefficient(3) - y * z * coefficient(4)
    - x * z * coefficient(6) + 0.5 * (xx - yy) * coefficient(7)) + 0.31539157 * (2.0 * zz - xx - yy) * coefficient(5));
  if (shDegree > 2) sum += shRange.z * (-0.59004359 * (y * (3.0 * xx - yy) * coefficient(8) + x * (xx - 3.0 * yy) * coefficient(14))
    + 2.89061144 * (x * y * z * coefficient(9) + 0.5 * z * (xx - yy) * coefficient(13))
    - 0.45704580 * (4.0 * zz - xx - yy) * (y * coefficient(10) + x * coefficient(12))
    + 0.37317633 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy) * coefficient(11));
  return sum;
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside, until proven visible
  uvec4 a = texel(base, 2u * index), b = texel(base, 2u * index + 1u);
  vec3 mean = uintBitsToFloat(a.xyz);
  mat3 turn;
  carry(index, mean, turn);
  vec3 t = (view * vec4(mean, 1.0)).xyz;
  float depth = -t.z;
  if (depth < 0.01) return;

  vec2 blueAlpha = unpackHalf2x16(b.x);
  vec3 scale = vec3(unpackHalf2x16(b.y), unpackHalf2x16(b.z).x);
  mat3 half_ = mat3(view) * turn * rotation(b.z >> 16, b.w) * mat3(scale.x, 0, 0, 0, scale.y, 0, 0, 0, scale.z);
  vec2 slope = clamp(t.xy / depth, -1.3 * tanHalf, 1.3 * tanHalf);
  vec3 right = vec3(half_[0].x, half_[1].x, half_[2].x);
  vec3 up = vec3(half_[0].y, half_[1].y, half_[2].y);
  vec3 away = vec3(half_[0].z, half_[1].z, half_[2].z);
  vec3 u = focal / depth * (right + slope.x * away), v = focal / depth * (up + slope.y * away);
  float uu = dot(u, u) + 0.3, vv = dot(v, v) + 0.3, uv = dot(u, v);

  float mid = 0.5 * (uu + vv), spread = length(vec2(0.5 * (uu - vv), uv));
  float major = mid + spread, minor = max(mid - spread, 0.1);
  vec2 axis = abs(uv) > 1e-6 * mid ? normalize(vec2(uv, major - uu)) : uu >= vv ? vec2(1, 0) : vec2(0, 1);
  float alpha = blueAlpha.y, reach = 2.0 * log(255.0 * alpha);
  if (!(reach > 0.0)) return;
  reach = sqrt(reach);
  vec2 corner = vec2((gl_VertexID & 1) * 2 - 1, (gl_VertexID & 2) - 1);
  offset = corner * reach;
  vec2 pixels = offset.x * sqrt(major) * axis + offset.y * sqrt(minor) * vec2(-axis.y, axis.x);
  vec2 center = focal * t.xy / depth;
  vec2 outside = abs(center) - reach * sqrt(vec2(uu, vv)) - 0.5 * viewport;
  if (max(outside.x, outside.y) > 0.0) return;

  vec3 rgb = vec3(unpackHalf2x16(a.w), blueAlpha.x);
  if (shDegree > 0) rgb += viewDependent(index, normalize(mean - eye) * turn);
  color = vec4(max(rgb, 0.0), alpha);
  gl_Position = vec4((center + pixels) / (0.5 * viewport), 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec2 offset;
in vec4 color;
out vec4 pixel;
void main() {
  float alpha = min(0.99, color.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < 1.0 / 255.0) discard;
  pixel = vec4(color.rgb * alpha, alpha);
}`;

class Renderer {
  constructor(canvas, scene, bytes) {
    this.canvas = canvas;
    this.scene = scene;
    this.bytes = bytes;
    this.gl = canvas.getContext("webgl2", {
      antialias: false,
      depth: false,
      alpha: false,
      powerPreference: "high-performance",
    });
    if (!this.gl) throw new Error("no WebGL2");
    this.build();
  }

  // Also called when a lost context comes back: everything on the graphics card is made anew.
  build() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
        throw new Error(gl.getShaderInfoLog(shader));
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost())
      throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.uniforms = new Proxy(
      {},
      { get: (known, name) => (known[name] ??= gl.getUniformLocation(program, name)) },
    );
    this.textures = {};
    this.order = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.load(this.scene, this.bytes);
  }

  // Other splats in place of these; nothing is drawn until they are sorted.
  load(scene, bytes) {
    const { gl } = this;
    [this.scene, this.bytes] = [scene, bytes];
    const words = new Uint32Array(
      this.bytes.buffer,
      this.bytes.byteOffset,
      this.bytes.byteLength >> 2,
    );
    const baseWords = scene.count * 8;
    this.upload(0, "base", words.subarray(0, baseWords));
    const rigWords = scene.rig ? scene.count * 4 : 0;
    this.upload(1, "harmonics", words.subarray(baseWords, words.length - rigWords));
    this.upload(2, "carried", words.subarray(words.length - rigWords));
    this.makeJoints(3, scene.rig ? 4 * scene.rig.rest.length : 1);
    gl.uniform1i(this.uniforms.moves, Number(Boolean(scene.rig)));
    gl.uniform3fv(this.uniforms.shRange, scene.shRange);
    gl.uniform1i(this.uniforms.shDegree, scene.shDegree);
    gl.uniform1i(this.uniforms.shTexels, scene.shTexels);

    gl.bufferData(gl.ARRAY_BUFFER, scene.count * 4, gl.DYNAMIC_DRAW);
    this.sorted = false;
  }

  upload(unit, name, words) {
    const { gl } = this;
    const width = Math.min(TEXELS_PER_ROW, gl.getParameter(gl.MAX_TEXTURE_SIZE));
    const height = Math.max(1, Math.ceil(words.length / 4 / width));
    if (height > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("too many splats");
    gl.activeTexture(gl.TEXTURE0 + unit);
    if (this.textures[name]) gl.deleteTexture(this.textures[name]);
    this.textures[name] = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.textures[name]);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32UI, width, height);
    const whole = Math.floor(words.length / 4 / width);
    const send = (row, columns, rows, part) =>
      gl.texSubImage2D(
        gl.TEXTURE_2D,
        0,
        0,
        row,
        columns,
        rows,
        gl.RGBA_INTEGER,
        gl.UNSIGNED_INT,
        part,
      );
    if (whole) send(0, width, whole, words.subarray(0, whole * width * 4));
    const rest = words.subarray(whole * width * 4);
    if (rest.length) send(whole, rest.length / 4, 1, rest);
    gl.uniform1i(this.uniforms[name], unit);
  }

  makeJoints(unit, texels) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    this.joints = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.joints);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, texels, 1);
    gl.uniform1i(this.uniforms.joints, unit);
  }

  // Where the joints are: four texels each, see motion.js.
  setJoints(texels) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.joints);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, texels.length / 4, 1, gl.RGBA, gl.FLOAT, texels);
  }

  setOrder(order) {
    if (order.length !== this.scene.count) return; // of the splats before these
    this.gl.bufferSubData(this.gl.ARRAY_BUFFER, 0, order);
    this.sorted = true;
  }

  draw(camera, background) {
    const { gl, canvas, uniforms } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.sorted) return;
    gl.uniformMatrix4fv(uniforms.view, false, camera.view);
    gl.uniform3fv(uniforms.eye, camera.eye);
    gl.uniform2f(uniforms.viewport, canvas.width, canvas.height);
    const focal = (0.5 * canvas.height) / camera.tanHalfY;
    gl.uniform1f(uniforms.focal, focal);
    gl.uniform2f(uniforms.tanHalf, (0.5 * canvas.width) / focal, camera.tanHalfY);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.scene.count);
  }
}
