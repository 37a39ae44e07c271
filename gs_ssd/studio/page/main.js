// The address after # says what is shown: nothing (making and gallery), run/NAME, compare/A/B,
// file/NAME.
import { runs } from "/page/api.js";
import { attachDrop } from "/page/drop.js";
import { h } from "/page/dom.js";
import { showCompare } from "/page/compare.js";
import { showFile } from "/page/file.js";
import { showHome } from "/page/home.js";
import { showRun } from "/page/run.js";

const main = document.getElementById("main");
const VIEWS = { run: showRun, compare: showCompare, file: showFile };
let ending = null;

function route() {
  ending?.abort();
  ending = new AbortController();
  const [view, ...names] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  main.replaceChildren();
  document.body.className = view in VIEWS ? `on-${view}` : "on-home";
  document.title = "GS-SSD Studio";
  (VIEWS[view] ?? showHome)(main, names, ending.signal);
  scrollTo(0, 0);
}

function connection(on) {
  const text = on ? "" : "The server does not answer; trying again…";
  document.getElementById("connection").replaceChildren(text && h("span", {}, text));
}

addEventListener("hashchange", () => {
  route();
  if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
});
attachDrop();
runs.start(connection);
route();
