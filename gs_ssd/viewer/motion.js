// An avatar's motions. `scene.rig` holds the joints' rest positions and clips of frames; a splat's
// joints and weights are in the page's data. Layout: see motion.py.

// Four texels a joint: its quaternion x y z w, then the three rows of its affine motion.
const JOINT_TEXELS = 4;

class Motion {
  constructor(rig, count, bytes) {
    this.rig = rig;
    this.texels = new Float32Array(rig.rest.length * JOINT_TEXELS * 4);
    const words = new Float32Array(bytes.buffer, bytes.byteOffset, count * 8);
    this.rest = new Float32Array(count * 3);
    for (let i = 0; i < count; i++) this.rest.set(words.subarray(8 * i, 8 * i + 3), 3 * i);
    const all = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
    this.weights = all.subarray(all.length - 4 * count);
    this.positions = new Float32Array(this.rest);
    this.clip = null; // the rest pose
    this.elapsed = 0;
    this.playing = false;
    this.pose();
  }

  choose(index) {
    [this.clip, this.elapsed] = [this.rig.clips[index] ?? null, 0];
  }

  advance(milliseconds) {
    if (!this.clip) return;
    this.elapsed += milliseconds / 1000;
    if (!this.clip.loop && this.elapsed >= this.clip.seconds) this.elapsed = 0;
  }

  // The joints at this moment, into `texels`; the splats' places, into `positions`.
  pose() {
    const { rig, clip, texels } = this;
    let [one, two, share] = [null, null, 0];
    if (clip) {
      const at = (((this.elapsed / clip.seconds) % 1) + 1) % 1;
      const frame = at * clip.frames.length,
        low = Math.floor(frame);
      const next = clip.loop ? (low + 1) % clip.frames.length : low + 1;
      [one, two] = [clip.frames[low], clip.frames[Math.min(next, clip.frames.length - 1)]];
      share = frame - low;
    }
    rig.rest.forEach((rest, joint) => {
      const still = [1, 0, 0, 0, ...rest];
      const row = one ? between(one[joint], two[joint], share) : still;
      writeJoint(texels, joint, row, rest);
    });
    this.skin();
  }

  // Linear blend skinning of the centres, for sorting; the graphics card does the same.
  skin() {
    const { rest, positions, weights, texels } = this;
    for (let i = 0, p = 0; p < rest.length; i += 4, p += 3) {
      const x = rest[p],
        y = rest[p + 1],
        z = rest[p + 2];
      let [sx, sy, sz] = [0, 0, 0];
      for (let k = 0; k < 4; k++) {
        const shift = 16 * (k & 1);
        const weight = ((weights[i + 2 + (k >> 1)] >>> shift) & 65535) / 65535;
        if (!weight) continue;
        const m = (((weights[i + (k >> 1)] >>> shift) & 65535) * JOINT_TEXELS + 1) * 4;
        sx += weight * (texels[m] * x + texels[m + 1] * y + texels[m + 2] * z + texels[m + 3]);
        sy += weight * (texels[m + 4] * x + texels[m + 5] * y + texels[m + 6] * z + texels[m + 7]);
        sz +=
          weight * (texels[m + 8] * x + texels[m + 9] * y + texels[m + 10] * z + texels[m + 11]);
      }
      [positions[p], positions[p + 1], positions[p + 2]] = [sx, sy, sz];
    }
  }
}

function between(one, two, share) {
  let dot = 0;
  for (let k = 0; k < 4; k++) dot += one[k] * two[k];
  const sign = dot < 0 ? -1 : 1;
  const row = one.map((value, k) => value + share * ((k < 4 ? sign : 1) * two[k] - value));
  const length = Math.hypot(row[0], row[1], row[2], row[3]);
  for (let k = 0; k < 4; k++) row[k] /= length;
  return row;
}

function writeJoint(texels, joint, [w, x, y, z, px, py, pz], [rx, ry, rz]) {
  const m = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const start = joint * JOINT_TEXELS * 4;
  texels.set([x, y, z, w], start);
  [px, py, pz].forEach((p, i) => {
    const [a, b, c] = m[i];
    texels.set([a, b, c, p - (a * rx + b * ry + c * rz)], start + 4 * (i + 1));
  });
}

// The buttons of the clips, under the title; the button that plays and pauses.
function showClips(viewer) {
  const clips = scene.rig?.clips ?? [];
  clips.forEach((clip, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = clip.name;
    button.addEventListener("click", () => viewer.chooseClip(index));
    $("clips").append(button);
  });
  $("clips").hidden = $("play").hidden = !clips.length;
  for (const row of document.querySelectorAll("[data-needs=rig]")) row.hidden = !clips.length;
}
