// A file that was dropped on the page: look, convert, begin a run from it.
import { splats } from "/page/api.js";
import { h, icon, plural } from "/page/dom.js";
import { exportPanel } from "/page/exports.js";
import { makeForm } from "/page/make.js";
import { SplatView } from "/page/splat_view.js";

export function showFile(main, [name], signal) {
  const title = name.replace(/-[0-9a-f]{12}(\.[a-z.]+)$/, "$1");
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": `${title}, a 3D object. Drag or use the arrow keys to turn it, plus and minus to zoom.` });
  const message = h("p", { class: "waiting" }, "Opening…");
  const about = h("p", { class: "status" });
  const path = `uploads/${encodeURIComponent(name)}`;
  const begin = h("details", { class: "fork" }, h("summary", {}, "Begin a run from it"));
  begin.addEventListener("toggle", () => begin.append(makeForm(signal, { fixed: { start: name }, label: "New prompt" })), { once: true });
  main.append(
    h(
      "div",
      { class: "studio" },
      h("div", { class: "stage" }, canvas, message),
      h("div", { class: "panel" }, h("a", { class: "back", href: "#/" }, icon("back"), "All runs"), h("h1", {}, title), about, exportPanel(path, signal), begin),
    ),
  );
  document.title = `${title} · GS-SSD Studio`;
  const view = new SplatView(canvas, { onfail: (text) => (message.textContent = text) });
  signal.addEventListener("abort", () => view.close());
  splats(`${path}/splats`, { signal }).then(
    (buffer) => {
      const scene = view.show(buffer);
      about.textContent = plural(scene.total, "splat");
      message.textContent = "";
    },
    (error) => signal.aborted || (message.textContent = error.message),
  );
}
