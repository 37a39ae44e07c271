const BACKGROUNDS = [
  ["dark", [0.059, 0.063, 0.071]],
  ["light", [1, 1, 1]],
  ["grey", [0.502, 0.502, 0.502]],
];
const TURN_SPEED = 0.35; // radians a second
const FIT = 1.35; // radii of the ball that a first view shows
const SHORTCUTS = {
  " ": "turn",
  b: "background",
  r: "reset",
  0: "reset",
  s: "screenshot",
  c: "copy",
  p: "path",
  m: "play",
  "?": "help",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOMS = { "+": 0.9, "=": 0.9, "-": 1.1, _: 1.1 };

const $ = (id) => document.getElementById(id);
const canvas = $("view");
const scene = JSON.parse($("scene").textContent);

function fail(sentence) {
  document.body.classList.add("failed");
  $("problem").textContent = sentence;
  $("problem").hidden = false;
  $("status").textContent = "";
  window.__failed = sentence;
}

function decode(element) {
  const text = element.textContent.trim();
  element.remove();
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text),
    bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// Far enough for the unit sphere to fill about three quarters of the window's narrower side.
function fittingDistance(tanHalfY) {
  const narrow = Math.min(1, canvas.clientWidth / canvas.clientHeight || 1);
  return FIT / Math.sin(Math.atan(tanHalfY * narrow));
}

class Viewer {
  constructor(bytes) {
    this.renderer = new Renderer(canvas, scene, bytes);
    // the scene itself names angles, and no distance
    this.first = scene.views[scene.first] ?? scene;
    this.orbit = new Orbit(poseOf(this.first));
    this.flight = null;
    this.dirty = true; // the picture is not the one that the state asks for
    this.moving = 0; // frames until things count as being at rest
    this.detail = 1; // share of the window's pixels, less while a slow machine moves
    this.pace = 16; // milliseconds a frame, smoothed
    this.lastTime = 0;
    this.waiting = []; // promises of `set`
    this.setBackground(
      Math.max(
        0,
        BACKGROUNDS.findIndex(([name]) => name === scene.background),
      ),
    );
    this.setTurning(scene.turn && !matchMedia("(prefers-reduced-motion: reduce)").matches);
    this.poses = 0; // how many there were; an order belongs to one of them
    this.motion = scene.rig ? new Motion(scene.rig, scene.count, bytes) : null;
    if (this.motion) this.renderer.setJoints(this.motion.texels);
    this.startSorting(bytes);
    this.frame = this.frame.bind(this);
    requestAnimationFrame(this.frame);
  }

  // One sort is under way at a time; `spare` is the array for the next, null while the sorter has
  // it.
  startSorting(bytes) {
    const words = new Float32Array(bytes.buffer, bytes.byteOffset, scene.count * 8);
    const positions = new Float32Array(scene.count * 3);
    for (let i = 0; i < scene.count; i++) positions.set(words.subarray(8 * i, 8 * i + 3), 3 * i);
    this.spare = new Uint32Array(scene.count);
    this.sortedFor = null;
    this.sort = startSorter(positions, ({ order, direction }) => {
      if (direction && !this.renderer.gl.isContextLost()) this.renderer.setOrder(order);
      const still = this.sortingPose === this.poses; // no new pose since the sort began
      [this.spare, this.sortedFor, this.dirty] = [order, still ? direction : null, true];
    });
  }

  // True if the splats are in order for this camera; else the sorter is set to work, unless it is
  // at it.
  inOrder({ direction }) {
    if (!this.spare) return false;
    const same =
      this.sortedFor && direction.every((value, i) => Math.abs(value - this.sortedFor[i]) < 1e-4);
    if (same && this.renderer.sorted) return true;
    if (this.motion) this.sort.replace(this.motion.positions);
    this.sortingPose = this.poses;
    this.sort(direction, this.spare);
    this.spare = null;
    return false;
  }

  resize() {
    const scale = Math.min(devicePixelRatio || 1, 2) * this.detail;
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width === width && canvas.height === height) return;
    [canvas.width, canvas.height, this.dirty] = [width, height, true];
  }

  // Slow graphics: fewer pixels while things move, all of them as soon as they rest.
  adapt(elapsed) {
    if (this.moving-- <= 0) {
      this.detail = 1;
      return;
    }
    this.pace += 0.1 * (elapsed - this.pace);
    if (this.pace > 40) [this.detail, this.pace] = [Math.max(0.5, this.detail * 0.85), 30];
    else if (this.pace < 18) this.detail = Math.min(1, this.detail * 1.02);
  }

  frame(time) {
    const elapsed = Math.min(time - this.lastTime, 200);
    this.lastTime = time;
    if (this.flight) {
      Object.assign(this.orbit, this.flight.advance(Math.min(elapsed, 100)));
      if (this.flight.done) this.flight = null;
      this.moved();
    }
    if (this.turning) {
      this.orbit.turn((TURN_SPEED * Math.min(elapsed, 100)) / 1000, 0);
      this.moved();
    }
    if (this.motion?.playing) {
      this.motion.advance(Math.min(elapsed, 100));
      this.showPose();
      this.moved();
    }
    this.adapt(elapsed);
    this.resize();
    const camera = this.orbit.camera();
    const inOrder = this.inOrder(camera);
    if (this.dirty) {
      this.dirty = false;
      this.renderer.draw(camera, this.color);
      window.__ready = this.renderer.sorted;
      if (inOrder) this.waiting.splice(0).forEach((done) => done());
    }
    requestAnimationFrame(this.frame);
  }

  moved() {
    [this.dirty, this.moving] = [true, 8];
  }

  setTurning(on) {
    this.stop();
    this.turning = on;
    $("turn").setAttribute("aria-pressed", String(on));
  }

  // The hand takes over: nothing moves by itself any more.
  stop() {
    [this.turning, this.flight] = [false, null];
    for (const id of ["turn", "path"]) $(id).setAttribute("aria-pressed", "false");
    for (const button of $("views").children) button.setAttribute("aria-pressed", "false");
  }

  flyTo(index) {
    if (!scene.views[index]) return;
    const pose = poseOf(scene.views[index]);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.stop();
    $("views").children[index].setAttribute("aria-pressed", "true");
    this.flight = new Flight(
      still ? () => pose : wayThrough([this.orbit, pose], false),
      still ? 1 : FLIGHT_MS,
      { ease: true },
    );
  }

  playPath() {
    const playing = this.flight?.isPath;
    this.stop();
    if (playing || !scene.path) return;
    const { views, seconds, loop } = scene.path;
    this.flight = new Flight(
      wayThrough(
        views.map((index) => poseOf(scene.views[index])),
        loop,
      ),
      1000 * seconds,
      { loop },
    );
    this.flight.isPath = true;
    $("path").setAttribute("aria-pressed", "true");
  }

  // The splats as the motion's moment has them; what was in order is so no more.
  showPose() {
    this.motion.pose();
    this.renderer.setJoints(this.motion.texels);
    this.poses++;
    [this.sortedFor, this.dirty] = [null, true];
  }

  setPlaying(on) {
    if (!this.motion) return;
    if (on && !this.motion.clip) this.chooseClip(0, false);
    this.motion.playing = on;
    $("play").setAttribute("aria-pressed", String(on));
  }

  chooseClip(index, play = true) {
    this.motion.choose(index);
    [...$("clips").children].forEach((button, i) =>
      button.setAttribute("aria-pressed", String(i === index)),
    );
    if (play) this.setPlaying(true);
    this.showPose();
  }

  // A sentence in place of the caption, for a while.
  say(sentence) {
    $("status").textContent = sentence;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => ($("status").textContent = scene.caption), 6000);
  }

  setBackground(index) {
    this.background = index % BACKGROUNDS.length;
    const [name, color] = BACKGROUNDS[this.background];
    [this.color, this.dirty, document.body.className] = [color, true, name];
  }

  goHome() {
    this.stop();
    this.orbit.home = poseOf(this.first); // the window may have changed
    this.orbit.reset();
    this.moved();
  }

  screenshot() {
    [this.detail, this.dirty] = [1, true];
    this.resize();
    // in the same task as toBlob: the buffer does not outlive it
    this.renderer.draw(this.orbit.camera(), this.color);
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download =
        (document.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "splat") + ".png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }, "image/png");
  }

  toggleHelp() {
    const hidden = ($("keys").hidden = !$("keys").hidden);
    $("help").setAttribute("aria-expanded", String(!hidden));
  }

  restore() {
    this.renderer.build();
    if (this.motion) this.renderer.setJoints(this.motion.texels);
    [this.sortedFor, this.dirty] = [null, true];
  }

  // The rest is for tests, and for pages that hold several views. Lengths are in the file's own
  // units.
  get radius() {
    return scene.radius;
  }

  state() {
    const { azimuth, polar, distance, target } = this.orbit;
    return {
      azimuth,
      polar,
      distance: distance * scene.radius,
      target: target.map((value, i) => value * scene.radius + scene.center[i]),
      turning: this.turning,
      background: BACKGROUNDS[this.background][0],
      clip: this.motion?.clip?.name ?? null,
      playing: this.motion?.playing ?? false,
    };
  }

  // Resolves when the new view stands there, sorted.
  set({ azimuth, polar, distance, target, fovY, backgroundColor, clip, seconds }) {
    this.stop();
    if (clip !== undefined) {
      this.setPlaying(false);
      this.chooseClip(scene.rig.clips.findIndex(({ name }) => name === clip), false);
      this.motion.elapsed = seconds ?? 0;
      this.showPose();
    }
    if (azimuth !== undefined) this.orbit.azimuth = azimuth;
    if (polar !== undefined) this.orbit.polar = polar;
    if (distance !== undefined) this.orbit.distance = distance / scene.radius;
    if (target !== undefined)
      this.orbit.target = target.map((value, i) => (value - scene.center[i]) / scene.radius);
    if (fovY !== undefined) this.orbit.tanHalfY = Math.tan(fovY / 2);
    if (backgroundColor !== undefined) this.color = backgroundColor;
    [this.dirty, this.moving] = [true, 0];
    return new Promise((done) => this.waiting.push(done));
  }
}

function attachKeys(viewer, actions) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !$("keys").hidden) return viewer.toggleHelp();
    if (event.target === $("copied")) return event.key === "Escape" && event.target.blur();
    if (event.key === " " && event.target instanceof HTMLButtonElement) return;
    const action = actions[SHORTCUTS[event.key.toLowerCase()]];
    const arrow = ARROWS[event.key],
      zoom = ZOOMS[event.key];
    const number = /^[1-9]$/.test(event.key) && scene.views[event.key - 1];
    if (!action && !arrow && !zoom && !number) return;
    event.preventDefault();
    if (action) return action();
    if (number) return viewer.flyTo(event.key - 1);
    viewer.stop();
    if (zoom) viewer.orbit.zoom(zoom);
    else if (event.shiftKey) viewer.orbit.pan(0.04 * arrow[0], 0.04 * arrow[1]);
    else viewer.orbit.turn(0.1 * arrow[0], 0.1 * arrow[1]);
    viewer.moved();
  });
}

function attachContextLoss(viewer) {
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    $("status").textContent = "The graphics card was taken away; waiting for it…";
  });
  canvas.addEventListener("webglcontextrestored", () => {
    viewer.restore();
    $("status").textContent = scene.caption;
  });
}

function start() {
  const viewer = (window.gsViewer = new Viewer(decode($("data"))));
  const actions = {
    turn: () => viewer.setTurning(!viewer.turning),
    background: () => viewer.setBackground(viewer.background + 1),
    reset: () => viewer.goHome(),
    screenshot: () => viewer.screenshot(),
    copy: () => copyView(viewer),
    path: () => viewer.playPath(),
    play: () => viewer.setPlaying(!viewer.motion?.playing),
    help: () => viewer.toggleHelp(),
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  attachKeys(viewer, actions);
  attachPointer(canvas, viewer.orbit, {
    moved: () => viewer.moved(),
    touched: () => viewer.stop(),
    home: actions.reset,
  });
  attachContextLoss(viewer);
  showViews(viewer);
  showClips(viewer);
  if (viewer.motion && !matchMedia("(prefers-reduced-motion: reduce)").matches)
    viewer.chooseClip(0);
  $("copied").addEventListener("blur", () => ($("copied").hidden = true));
  addEventListener("resize", () => (viewer.dirty = true));
  $("status").textContent = scene.caption;
}

try {
  start();
} catch (error) {
  console.error(error);
  fail(
    error.message === "no WebGL2"
      ? "This page needs WebGL2, which this browser does not offer. Please open it in a current Firefox, Chrome, Edge or Safari, with graphics acceleration switched on."
      : `This splat cannot be shown here (${error.message}).`,
  );
}
