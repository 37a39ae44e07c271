// Several runs side by side; turning one turns all.
import { hasSplats, runPath, runs, splats } from "/page/api.js";
import { h, icon } from "/page/dom.js";
import { SplatView } from "/page/splat_view.js";
import { counted } from "/page/status.js";

export function showCompare(main, names, signal) {
  const views = [];
  const places = names.map((name) => {
    const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": `${name}, a 3D object; it turns with the others` });
    const message = h("p", { class: "waiting" });
    const title = h("h2", {}, name);
    const about = h("p", { class: "status" });
    const fail = (text) => (message.textContent = text);
    const view = new SplatView(canvas, { turn: false, onfail: fail, onmove: (pose) => views.forEach((other) => other !== view && other.follow(pose)) });
    views.push(view);
    let shown = "";
    // What there is, and again when there is more.
    const load = (run) => {
      const stamp = `${run.state === "done"} ${run.checkpoints.at(-1)}`;
      if (stamp === shown) return;
      shown = stamp;
      if (!hasSplats(run)) return fail("Nothing to show yet.");
      splats(`${runPath(name)}/splats`, { signal }).then(
        (buffer) => (view.show(buffer), fail("")),
        (error) => signal.aborted || fail(error.message),
      );
    };
    const update = () => {
      const run = runs.all.get(name);
      if (run) load(run);
      else if (runs.known) fail("There is no such run.");
      title.textContent = run?.prompt ?? name;
      about.textContent = run ? [run.estimator, `seed ${run.seed}`, `${run.completed} steps`, counted(run)].filter(Boolean).join(" · ") : "";
    };
    runs.listen(update, signal);
    update();
    const link = h("a", { href: `#/run/${encodeURIComponent(name)}` }, title);
    return h("section", { class: "place" }, canvas, message, h("div", { class: "caption" }, link, about));
  });
  signal.addEventListener("abort", () => views.forEach((view) => view.close()));
  const back = h("a", { class: "back", href: "#/" }, icon("back"), "All runs");
  main.append(h("h1", { class: "sr" }, "Side by side"), back, h("div", { class: "places" }, ...places));
}
