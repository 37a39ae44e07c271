// Named views, the flight between them, and the path through them. A pose is what `Orbit` holds:
// azimuth, polar, distance, target, tanHalfY, in units of the radius around the centre.
const FLIGHT_MS = 700;

// How much farther away a window that is higher than wide has to stand, to show what a square one
// does.
function widening(tanHalfY) {
  return (fittingDistance(tanHalfY) * Math.sin(Math.atan(tanHalfY))) / FIT;
}

function poseOf(view) {
  const { azimuth, polar, tanHalfY } = { ...view, tanHalfY: view.tanHalfY ?? scene.tanHalfY };
  const target = view.target
    ? view.target.map((value, i) => (value - scene.center[i]) / scene.radius)
    : [0, 0, 0];
  const distance = view.distance
    ? (view.distance / scene.radius) * widening(tanHalfY)
    : fittingDistance(tanHalfY);
  return { azimuth, polar, tanHalfY, distance, target };
}

// The view that the state shows, as `--views` reads it.
function viewOf(orbit, name) {
  const round = (value, digits) => Number(value.toFixed(digits));
  const degrees = (angle) => (angle * 180) / Math.PI;
  const length = (value) => Number(value.toPrecision(6));
  return {
    name,
    azimuth_deg: round(degrees(Math.atan2(Math.sin(orbit.azimuth), Math.cos(orbit.azimuth))), 2),
    elevation_deg: round(90 - degrees(orbit.polar), 2),
    distance: length((orbit.distance * scene.radius) / widening(orbit.tanHalfY)),
    target: orbit.target.map((value, i) => length(value * scene.radius + scene.center[i])),
    fov_y_deg: round(degrees(2 * Math.atan(orbit.tanHalfY)), 2),
  };
}

// Between four neighbouring values, through the middle two (Catmull and Rom).
function spline(a, b, c, d, t) {
  return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

// The way through poses, as a function of 0..1. Each angle goes the shorter way round.
function wayThrough(poses, loop) {
  const rows = poses.map((p) => [
    p.azimuth,
    p.polar,
    Math.log(p.distance),
    ...p.target,
    p.tanHalfY,
  ]);
  if (loop) rows.push([...rows[0]]);
  for (let i = 1; i < rows.length; i++) {
    const turn = rows[i][0] - rows[i - 1][0];
    rows[i][0] = rows[i - 1][0] + Math.atan2(Math.sin(turn), Math.cos(turn));
  }
  const last = rows.length - 1,
    whole = rows[last][0] - rows[0][0];
  const row = (i) => {
    if (i >= 0 && i <= last) return rows[i];
    if (!loop) return rows[Math.min(Math.max(i, 0), last)];
    const wrapped = [...rows[i < 0 ? i + last : i - last]];
    wrapped[0] += i < 0 ? -whole : whole;
    return wrapped;
  };
  return (share) => {
    const at = Math.min(share * last, last - 1e-9),
      i = Math.floor(at);
    const near = [row(i - 1), row(i), row(i + 1), row(i + 2)];
    const [azimuth, polar, log, x, y, z, tanHalfY] = rows[0].map((_, k) =>
      spline(...near.map((r) => r[k]), at - i),
    );
    return {
      azimuth,
      polar: Math.min(Math.max(polar, 0.02), Math.PI - 0.02),
      distance: Math.exp(log),
      target: [x, y, z],
      tanHalfY,
    };
  };
}

// A flight: `poseAt(now)` while it lasts. `loop` never ends.
class Flight {
  constructor(way, milliseconds, { loop = false, ease = false } = {}) {
    Object.assign(this, { way, milliseconds, loop, ease, elapsed: 0 });
  }

  advance(elapsed) {
    this.elapsed += elapsed;
    let share = this.elapsed / this.milliseconds;
    this.done = !this.loop && share >= 1;
    share = this.loop ? share % 1 : Math.min(share, 1);
    return this.way(this.ease ? share * share * (3 - 2 * share) : share);
  }
}

// The buttons of the views, under the title.
function showViews(viewer) {
  scene.views.forEach((view, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = view.name;
    if (index < 9) button.title = `${view.name} (${index + 1})`;
    button.addEventListener("click", () => viewer.flyTo(index));
    $("views").append(button);
  });
  $("views").hidden = !scene.views.length;
  $("path").hidden = !scene.path;
  for (const row of document.querySelectorAll("[data-needs=views]"))
    row.hidden = !scene.views.length;
  for (const row of document.querySelectorAll("[data-needs=path]")) row.hidden = !scene.path;
}

// Puts the view on the clipboard; where the browser refuses, shows it for copying by hand.
async function copyView(viewer) {
  const text = JSON.stringify(viewOf(viewer.orbit, `View ${scene.views.length + 1}`));
  try {
    await navigator.clipboard.writeText(text);
    viewer.say("View copied: paste it into a file for gs-ssd export --views");
  } catch {
    const field = $("copied");
    field.value = text;
    field.hidden = false;
    field.focus();
    field.select();
    viewer.say("Copy the view below, for gs-ssd export --views");
  }
  return text;
}
