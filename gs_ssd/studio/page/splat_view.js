// A canvas that shows splats which may be replaced at any time, without a blink and without the
// camera jumping. The camera lives in units of a ball that follows the splats' own slowly.
import { Orbit, Renderer, attachPointer, startSorter } from "/viewer.js";
import { stillness } from "/page/dom.js";

const HOME = { azimuth: 0.44, polar: 1.36, target: [0, 0, 0], tanHalfY: 0.34 };
const FIT = 1.3; // radii of the ball that a first view shows
const TURN_SPEED = 0.3; // radians a second
const FOLLOW = 0.12; // of the way to the new splats' ball, a frame
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOMS = { "+": 0.9, "=": 0.9, "-": 1.1, _: 1.1 };

function parse(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const scene = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const bytes = new Uint8Array(buffer, 4 + size);
  const words = new Float32Array(buffer, 4 + size, scene.count * 8);
  const positions = new Float32Array(scene.count * 3);
  for (let i = 0; i < scene.count; i++) positions.set(words.subarray(8 * i, 8 * i + 3), 3 * i);
  return { scene, bytes, positions };
}

export class SplatView {
  // `onmove` is told when a hand has moved the camera.
  constructor(canvas, { onmove = () => {}, onfail = () => {}, turn = true } = {}) {
    this.canvas = canvas;
    [this.onmove, this.onfail] = [onmove, onfail];
    this.wantsTurn = turn && !stillness();
    this.turning = false;
    this.ball = null;
    this.detail = 1;
    this.pace = 16;
    this.moving = 0;
    this.dirty = true;
    this.alive = true;
    this.orbit = new Orbit({ ...HOME, distance: 4 });
    attachPointer(canvas, this.orbit, {
      moved: () => this.moved(),
      touched: () => (this.turning = false),
      home: () => this.home(),
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.renderer.build();
      [this.sortedFor, this.dirty] = [null, true];
    });
    this.frame = this.frame.bind(this);
    this.last = performance.now();
    requestAnimationFrame(this.frame);
  }

  // Splats as the server sends them, in place of those that are shown.
  show(buffer) {
    this.next = parse(buffer);
    this.dirty = true;
    return this.next.scene;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    const zoom = ZOOMS[event.key];
    if (!arrow && !zoom && event.key !== "r" && event.key !== " ") return;
    event.preventDefault();
    if (event.key === " ") return this.setTurning(!this.turning);
    this.turning = false;
    if (event.key === "r") this.home();
    else if (zoom) this.orbit.zoom(zoom);
    else if (event.shiftKey) this.orbit.pan(0.04 * arrow[0], 0.04 * arrow[1]);
    else this.orbit.turn(0.1 * arrow[0], 0.1 * arrow[1]);
    this.moved();
  }

  setTurning(on) {
    this.turning = on;
    this.dirty = true;
  }

  home() {
    const narrow = Math.min(1, this.canvas.clientWidth / this.canvas.clientHeight || 1);
    const distance = FIT / Math.sin(Math.atan(HOME.tanHalfY * narrow));
    Object.assign(this.orbit, structuredClone({ ...HOME, distance }));
    this.dirty = true;
  }

  moved() {
    [this.dirty, this.moving] = [true, 8];
    this.onmove(this.pose());
  }

  pose() {
    const { azimuth, polar, distance, target } = this.orbit;
    return { azimuth, polar, distance, target: [...target] };
  }

  // Another view's pose, without telling anybody.
  follow(pose) {
    Object.assign(this.orbit, structuredClone(pose));
    [this.turning, this.dirty, this.moving] = [false, true, 8];
  }

  close() {
    this.alive = false;
    this.renderer?.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  frame(time) {
    if (!this.alive) return;
    const elapsed = Math.min(time - this.last, 200);
    this.last = time;
    if (this.turning) {
      this.orbit.turn((TURN_SPEED * Math.min(elapsed, 100)) / 1000, 0);
      [this.dirty, this.moving] = [true, 8];
      this.onmove(this.pose());
    }
    this.adapt(elapsed);
    this.resize();
    this.followBall();
    if (this.renderer || this.next) this.sortAndDraw();
    requestAnimationFrame(this.frame);
  }

  // Slow graphics: fewer pixels while things move, all of them as soon as they rest.
  adapt(elapsed) {
    if (this.moving-- <= 0) {
      this.detail = 1;
      return;
    }
    this.pace += 0.1 * (elapsed - this.pace);
    if (this.pace > 40) [this.detail, this.pace] = [Math.max(0.4, this.detail * 0.85), 30];
    else if (this.pace < 18) this.detail = Math.min(1, this.detail * 1.02);
  }

  resize() {
    const { canvas } = this;
    const scale = Math.min(devicePixelRatio || 1, 2) * this.detail;
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width === width && canvas.height === height) return;
    [canvas.width, canvas.height, this.dirty] = [width, height, true];
  }

  followBall() {
    const scene = this.renderer?.scene;
    if (!scene || !this.ball) return;
    const far = Math.hypot(...scene.center.map((c, i) => c - this.ball.center[i]));
    if (far + Math.abs(scene.radius - this.ball.radius) < 1e-3 * scene.radius) return;
    const share = stillness() ? 1 : FOLLOW;
    this.ball.center = this.ball.center.map((c, i) => c + share * (scene.center[i] - c));
    this.ball.radius += share * (scene.radius - this.ball.radius);
    this.dirty = true;
  }

  // The camera in the units of the splats that are on the graphics card.
  camera(scene) {
    const { eye, direction, tanHalfY } = this.orbit.camera();
    const { right, up, back } = this.orbit.axes();
    const at = eye.map(
      (value, i) => (value * this.ball.radius + this.ball.center[i] - scene.center[i]) / scene.radius,
    );
    const shift = (axis) => -(axis[0] * at[0] + axis[1] * at[1] + axis[2] * at[2]);
    const rows = [right, up, back];
    const view = [0, 1, 2].flatMap((i) => [...rows.map((row) => row[i]), 0]);
    return { view: [...view, ...rows.map(shift), 1], eye: at, direction, tanHalfY };
  }

  sortAndDraw() {
    const { direction } = this.orbit.camera();
    if (!this.busy) this.sortIfNeeded(direction);
    if (!this.dirty || !this.renderer?.sorted) return;
    this.dirty = false;
    this.renderer.draw(this.camera(this.renderer.scene), stage());
    const { azimuth } = this.orbit;
    const { completed } = this.renderer.scene;
    Object.assign(this.canvas.dataset, { drawn: "yes", azimuth, completed });
  }

  sortIfNeeded(direction) {
    if (this.next) {
      this.loading = this.next;
      this.next = null;
      this.order = new Uint32Array(this.loading.scene.count);
      if (this.sort) this.sort.replace(this.loading.positions);
      else this.sort = startSorter(this.loading.positions, (sorted) => this.sorted(sorted));
    } else {
      const still = this.sortedFor?.every((value, i) => Math.abs(value - direction[i]) < 1e-4);
      if (still || !this.renderer) return;
    }
    this.busy = true;
    this.sort(direction, this.order);
  }

  sorted({ order, direction }) {
    [this.busy, this.order, this.sortedFor, this.dirty] = [false, order, direction, true];
    if (!this.alive || !direction) return;
    if (this.loading) {
      const { scene, bytes } = this.loading;
      this.loading = null;
      try {
        if (!this.renderer) this.begin(scene, bytes);
        else this.renderer.load(scene, bytes);
      } catch (error) {
        return this.fail(error);
      }
    }
    if (!this.renderer.gl.isContextLost()) this.renderer.setOrder(order);
  }

  fail(error) {
    this.alive = false;
    this.onfail(
      error.message === "no WebGL2"
        ? "This browser does not offer WebGL2, with which the splats are drawn; switch graphics acceleration on, or open the page in a current Firefox, Chrome, Edge or Safari."
        : `This cannot be drawn here (${error.message}).`,
    );
  }

  begin(scene, bytes) {
    this.renderer = new Renderer(this.canvas, scene, bytes);
    this.ball = { center: [...scene.center], radius: scene.radius };
    this.home();
    this.setTurning(this.wantsTurn);
  }
}

// The colour behind the splats, from the style sheet.
function stage() {
  const text = getComputedStyle(document.documentElement).getPropertyValue("--stage").trim();
  const value = parseInt(text.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255].map((part) => part / 255);
}
