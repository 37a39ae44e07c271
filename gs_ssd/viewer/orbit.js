// A camera on a sphere around `target`, in a y-up frame. Azimuth 0 sees the front (+z) and grows
// towards -x, polar angle from +y: the project's own angles, in glTF axes.
class Orbit {
  constructor(home) {
    this.home = home;
    this.reset();
  }

  reset() {
    Object.assign(this, structuredClone(this.home));
  }

  turn(azimuth, polar) {
    this.azimuth += azimuth;
    this.polar = Math.min(Math.max(this.polar + polar, 0.02), Math.PI - 0.02);
  }

  zoom(factor) {
    this.distance = Math.min(Math.max(this.distance * factor, 0.05), 100);
  }

  // Move along the screen by a share of its height.
  pan(x, y) {
    const { right, up } = this.axes();
    const size = 2 * this.distance * this.tanHalfY;
    for (let i = 0; i < 3; i++) this.target[i] += size * (-x * right[i] + y * up[i]);
  }

  axes() {
    const [sa, ca, sp, cp] = [
      Math.sin(this.azimuth),
      Math.cos(this.azimuth),
      Math.sin(this.polar),
      Math.cos(this.polar),
    ];
    return { right: [ca, 0, sa], up: [sa * cp, sp, -ca * cp], back: [-sa * sp, cp, ca * sp] };
  }

  // Column-major world-to-camera matrix of OpenGL (looking along -z), and the eye.
  camera() {
    const { right: r, up: u, back: b } = this.axes();
    const eye = this.target.map((value, i) => value + this.distance * b[i]);
    const shift = (axis) => -(axis[0] * eye[0] + axis[1] * eye[1] + axis[2] * eye[2]);
    const view = [
      r[0],
      u[0],
      b[0],
      0,
      r[1],
      u[1],
      b[1],
      0,
      r[2],
      u[2],
      b[2],
      0,
      shift(r),
      shift(u),
      shift(b),
      1,
    ];
    return { view, eye, tanHalfY: this.tanHalfY, direction: b.map((value) => -value) };
  }
}

// Mouse, touch and pen on the canvas. `moved()` is told of every change, `touched()` of the first
// of each gesture.
function attachPointer(canvas, orbit, { moved, touched, home }) {
  const pointers = new Map();
  const middle = () => {
    const points = [...pointers.values()];
    const x = points.reduce((sum, p) => sum + p.x, 0) / points.length;
    const y = points.reduce((sum, p) => sum + p.y, 0) / points.length;
    return {
      x,
      y,
      spread:
        points.length > 1 ? Math.hypot(points[0].x - points[1].x, points[0].y - points[1].y) : 0,
    };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    touched();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = middle();
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = middle();
    const x = (after.x - before.x) / canvas.clientHeight,
      y = (after.y - before.y) / canvas.clientHeight;
    if (pointers.size > 1) {
      orbit.pan(x, y);
      if (before.spread > 0 && after.spread > 0) orbit.zoom(before.spread / after.spread);
    } else if (event.shiftKey || event.buttons & 6) orbit.pan(x, y);
    else orbit.turn(4 * x, -4 * y);
    moved();
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 200 : 1;
      orbit.zoom(
        Math.exp(
          Math.max(-200, Math.min(200, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0015),
        ),
      );
      touched();
      moved();
    },
    { passive: false },
  );
  canvas.addEventListener("dblclick", home);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}
