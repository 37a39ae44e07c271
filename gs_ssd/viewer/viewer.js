const BACKGROUNDS = [["dark", [0.059, 0.063, 0.071]], ["light", [1, 1, 1]], ["grey", [0.502, 0.502, 0.502]]];
const TURN_SPEED = 0.35;  // radians a second

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
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// Far enough for the unit sphere to fit the narrower side of the window.
function fittingDistance() {
  const narrow = Math.min(1, canvas.clientWidth / canvas.clientHeight || 1);
  return 1.05 / Math.sin(Math.atan(scene.tanHalfY * narrow));
}

function start() {
  const bytes = decode($("data"));
  const renderer = new Renderer(canvas, scene, bytes);
  const orbit = new Orbit({ azimuth: scene.azimuth, polar: scene.polar, distance: fittingDistance(), target: [0, 0, 0], tanHalfY: scene.tanHalfY });
  const words = new Float32Array(bytes.buffer, bytes.byteOffset, scene.count * 8);
  const positions = new Float32Array(scene.count * 3);
  for (let i = 0; i < scene.count; i++) positions.set(words.subarray(8 * i, 8 * i + 3), 3 * i);

  let background = Math.max(0, BACKGROUNDS.findIndex(([name]) => name === scene.background));
  let color = BACKGROUNDS[background][1];
  let turning = scene.turn && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let dirty = true, spare = new Uint32Array(scene.count), sortedFor = null, lastTime = 0, pace = 16, detail = 1, moving = 0;
  let settle = [];

  // One sort is under way at a time; the next starts when it is back and the direction has changed.
  const sort = startSorter(positions, ({ order, direction }) => {
    if (direction && !renderer.gl.isContextLost()) renderer.setOrder(order);
    [spare, sortedFor, dirty] = [order, direction, true];
  });

  function requestSort({ direction }) {
    if (!spare || (sortedFor && renderer.sorted && direction.every((value, i) => Math.abs(value - sortedFor[i]) < 1e-4))) return Boolean(spare);
    sort(direction, spare);
    spare = null;
    return false;
  }

  function resize() {
    const scale = Math.min(devicePixelRatio || 1, 2) * detail;
    const width = Math.max(1, Math.round(canvas.clientWidth * scale)), height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height, dirty] = [width, height, true];
  }

  // Slow graphics: fewer pixels while things move, all of them as soon as they rest.
  function adapt(elapsed) {
    if (moving-- > 0) {
      pace += 0.1 * (elapsed - pace);
      if (pace > 40) [detail, pace] = [Math.max(0.5, detail * 0.85), 30];
      else if (pace < 18) detail = Math.min(1, detail * 1.02);
    } else detail = 1;
  }

  function frame(time) {
    const elapsed = Math.min(time - lastTime, 200);
    lastTime = time;
    if (turning) {
      orbit.turn(TURN_SPEED * Math.min(elapsed, 100) / 1000, 0);
      moved();
    }
    adapt(elapsed);
    resize();
    const camera = orbit.camera();
    const inOrder = requestSort(camera);
    if (dirty) {
      dirty = false;
      renderer.draw(camera, color);
      window.__ready = renderer.sorted;
      if (inOrder && renderer.sorted) settle.splice(0).forEach((done) => done());
    }
    requestAnimationFrame(frame);
  }

  function moved() {
    [dirty, moving] = [true, 8];
  }

  function setTurning(on) {
    turning = on;
    $("turn").setAttribute("aria-pressed", String(on));
  }

  function setBackground(next) {
    background = next % BACKGROUNDS.length;
    const [name, value] = BACKGROUNDS[background];
    [color, dirty, document.body.className] = [value, true, name];
  }

  function goHome() {
    orbit.home.distance = fittingDistance();
    orbit.reset();
    setTurning(false);
    moved();
  }

  function screenshot() {
    [detail, dirty] = [1, true];
    resize();
    renderer.draw(orbit.camera(), color);  // in the same task as toBlob: the buffer is not kept between frames
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = (document.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "splat") + ".png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }, "image/png");
  }

  function toggleHelp() {
    const hidden = ($("keys").hidden = !$("keys").hidden);
    $("help").setAttribute("aria-expanded", String(!hidden));
  }

  const actions = { turn: () => setTurning(!turning), background: () => setBackground(background + 1), reset: goHome, screenshot, help: toggleHelp };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  const shortcuts = { " ": "turn", b: "background", r: "reset", 0: "reset", s: "screenshot", "?": "help" };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !$("keys").hidden) return toggleHelp();
    if (event.key === " " && event.target instanceof HTMLButtonElement) return;
    const action = actions[shortcuts[event.key.toLowerCase()]];
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const zoom = { "+": 0.9, "=": 0.9, "-": 1.1, _: 1.1 }[event.key];
    if (!action && !arrow && !zoom) return;
    event.preventDefault();
    if (action) return action();
    setTurning(false);
    if (zoom) orbit.zoom(zoom);
    else if (event.shiftKey) orbit.pan(0.04 * arrow[0], 0.04 * arrow[1]);
    else orbit.turn(0.1 * arrow[0], 0.1 * arrow[1]);
    moved();
  });
  attachPointer(canvas, orbit, { moved, touched: () => setTurning(false), home: goHome });
  addEventListener("resize", () => (dirty = true));
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    $("status").textContent = "The graphics card was taken away; waiting for it…";
  });
  canvas.addEventListener("webglcontextrestored", () => {
    renderer.build();
    [sortedFor, dirty] = [null, true];
    $("status").textContent = scene.caption;
  });

  setBackground(background);
  setTurning(turning);
  $("status").textContent = scene.caption;
  requestAnimationFrame(frame);

  // For tests, and for pages that hold several views. Lengths in the file's own units, colours in 0..1.
  window.gsViewer = {
    scene,
    state: () => ({ azimuth: orbit.azimuth, polar: orbit.polar, distance: orbit.distance * scene.radius, target: orbit.target.map((v, i) => v * scene.radius + scene.center[i]), turning, background: BACKGROUNDS[background][0] }),
    set({ azimuth, polar, distance, target, fovY, backgroundColor }) {
      setTurning(false);
      if (azimuth !== undefined) orbit.azimuth = azimuth;
      if (polar !== undefined) orbit.polar = polar;
      if (distance !== undefined) orbit.distance = distance / scene.radius;
      if (target !== undefined) orbit.target = target.map((value, i) => (value - scene.center[i]) / scene.radius);
      if (fovY !== undefined) orbit.tanHalfY = Math.tan(fovY / 2);
      if (backgroundColor !== undefined) color = backgroundColor;
      [dirty, moving] = [true, 0];
      return new Promise((done) => settle.push(done));
    },
  };
}

try {
  start();
} catch (error) {
  console.error(error);
  fail(error.message === "no WebGL2"
    ? "This page needs WebGL2, which this browser does not offer. Please open it in a current Firefox, Chrome, Edge or Safari, with graphics acceleration switched on."
    : `This splat cannot be shown here (${error.message}).`);
}
