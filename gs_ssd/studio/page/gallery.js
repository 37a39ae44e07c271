// Every run in the folder: search, star, choose several to compare, throw away.
import { act, getForm, request, runPath, runs } from "/page/api.js";
import { open } from "/page/drop.js";
import { h, icon, toast } from "/page/dom.js";
import { showProgress, statusOf } from "/page/status.js";

const MOST_COMPARED = 4;
const PAGE = 60; // cards at a time
const FILTERS = { all: "All", starred: "Starred", trash: "Trash" };

export function gallery(signal) {
  const search = h("input", { type: "search", id: "search", placeholder: "Search", autocomplete: "off" });
  const compare = h("button", { type: "button", class: "quiet", hidden: true });
  const grid = h("ul", { class: "grid" });
  const empty = h("p", { class: "empty", hidden: true });
  const more = h("button", { type: "button", class: "quiet more", hidden: true }, "Show more");
  const state = { filter: "all", chosen: new Set(), cards: new Map(), most: PAGE };

  const filters = Object.entries(FILTERS).map(([name, title]) => {
    const pressed = String(name === state.filter);
    const button = h("button", { type: "button", class: "quiet", "aria-pressed": pressed }, title);
    button.addEventListener("click", () => {
      state.filter = name;
      for (const other of filters) other.setAttribute("aria-pressed", String(other === button));
      list();
    });
    return button;
  });

  const fits = (run) =>
    (state.filter !== "starred" || run.starred) &&
    search.value.toLowerCase().split(/\s+/).every((word) => `${run.prompt} ${run.name}`.toLowerCase().includes(word));

  function card(run) {
    if (!state.cards.has(run.name)) state.cards.set(run.name, new Card(run, choose));
    const found = state.cards.get(run.name);
    found.update(run);
    return found.element;
  }

  function list() {
    if (state.filter === "trash") return listTrash();
    const fitting = [...runs.all.values()].filter(fits);
    put(fitting.slice(0, state.most).map(card));
    more.hidden = fitting.length <= state.most;
    empty.hidden = fitting.length > 0 || !runs.known;
    empty.textContent = runs.all.size
      ? "Nothing here."
      : "Nothing is made yet. Type what you would like to see, above.";
  }

  // Cards that stay are not touched: a press or the focus may be on them.
  function put(cards) {
    const focused = document.activeElement;
    const kept = new Set(cards);
    for (const one of [...grid.children]) if (!kept.has(one)) one.remove();
    cards.forEach((one, i) => one !== grid.children[i] && grid.insertBefore(one, grid.children[i] ?? null));
    if (grid.contains(focused)) focused.focus({ preventScroll: true });
  }

  async function listTrash() {
    const all = await request("GET", "trash").catch((error) => (toast(error.message), []));
    if (state.filter !== "trash") return;
    const names = all.filter((name) => fits({ name, prompt: name.replaceAll("-", " ") }));
    grid.replaceChildren(...names.map((name) => trashed(name, list)));
    more.hidden = true;
    empty.hidden = names.length > 0;
    empty.textContent = all.length ? "Nothing here." : "The trash is empty.";
  }

  function choose(name, on) {
    if (on) state.chosen.add(name);
    else state.chosen.delete(name);
    compare.hidden = !state.chosen.size;
    compare.disabled = state.chosen.size < 2 || state.chosen.size > MOST_COMPARED;
    compare.textContent =
      state.chosen.size > MOST_COMPARED
        ? `Compare at most ${MOST_COMPARED}`
        : `Compare side by side (${state.chosen.size})`;
  }

  compare.addEventListener("click", () => {
    location.hash = `#/compare/${[...state.chosen].map(encodeURIComponent).join("/")}`;
  });
  more.addEventListener("click", () => {
    state.most += PAGE;
    list();
  });
  search.addEventListener("input", list);
  runs.listen((name) => {
    const run = runs.all.get(name);
    if (!name || !run) list();
    else if (state.cards.has(name) && grid.contains(state.cards.get(name).element)) state.cards.get(name).update(run);
    else list();
  }, signal);
  list();
  return h(
    "section",
    { class: "gallery", "aria-labelledby": "gallery-title" },
    h("h2", { id: "gallery-title", class: "sr" }, "Made so far"),
    h(
      "div",
      { class: "tools" },
      h("div", { class: "filters", role: "group", "aria-label": "Show" }, ...filters),
      compare,
      h("label", { for: "search", class: "sr" }, "Search the prompts"),
      search,
      opener(),
    ),
    grid,
    empty,
    more,
  );
}

class Card {
  constructor(run, choose) {
    this.picture = h("div", { class: "picture" });
    this.status = h("p", { class: "status" });
    this.progress = h("div", { class: "progress" });
    const href = `#/run/${encodeURIComponent(run.name)}`;
    this.star = h(
      "button",
      { type: "button", class: "round star", onclick: () => this.toggleStar() },
      icon("star"),
    );
    const id = `choose-${run.name}`;
    const box = h("input", { type: "checkbox", id, onchange: () => choose(run.name, box.checked) });
    const label = h("label", { for: id }, h("span", { class: "sr" }, `Compare ${run.name}`));
    this.element = h(
      "li",
      { class: "card" },
      h(
        "a",
        { href },
        this.picture,
        h("h3", {}, run.prompt),
        this.status,
        this.progress,
      ),
      h("span", { class: "choose" }, box, label),
      this.star,
    );
  }

  async toggleStar() {
    await act(this.run, "star").catch((error) => toast(error.message));
  }

  update(run) {
    const before = this.run;
    this.run = run;
    this.status.textContent = statusOf(run);
    this.element.dataset.state = run.state;
    showProgress(this.progress, run);
    this.star.setAttribute("aria-pressed", String(run.starred));
    this.star.setAttribute("aria-label", `Star ${run.prompt}`);
    const stamp = `${run.previews.length} ${run.state === "done"} ${run.files.includes("views.png")}`;
    if (before && this.stamp === stamp) return;
    this.stamp = stamp;
    if (!run.previews.length && !run.files.includes("views.png")) return;
    const source = `/api/${runPath(run.name)}/picture?${encodeURIComponent(stamp + run.changed)}`;
    if (!this.picture.firstChild) this.picture.append(h("img", { alt: "", loading: "lazy", width: "320", height: "320" }));
    this.picture.firstChild.src = source;
  }
}

// The same as dropping a file, for hands that do not drop.
function opener() {
  const file = h("input", { type: "file", id: "open-file", class: "sr", tabindex: "-1" });
  getForm().then(({ readable }) => (file.accept = readable.join(",")), () => {});
  file.addEventListener("change", () => file.files[0] && open(file.files[0]));
  const press = () => file.click();
  const button = h("button", { type: "button", class: "quiet", onclick: press }, "Open a file…");
  const label = h("label", { for: "open-file", class: "sr" }, "A splat to look at");
  return h("span", { class: "opener" }, button, label, file);
}

function trashed(name, again) {
  const restore = async () => {
    try {
      await request("POST", `trash/${encodeURIComponent(name)}/restore`);
      again();
    } catch (error) {
      toast(error.message);
    }
  };
  const [title, when] = name.split("~");
  const day = when?.replace(/^(\d{4})(\d\d)(\d\d).*/, "$1-$2-$3") ?? "";
  return h(
    "li",
    { class: "card thrown" },
    h("h3", {}, title.replaceAll("-", " ")),
    h("p", { class: "status" }, `Thrown away ${day}`),
    h("button", { type: "button", class: "quiet", onclick: restore }, "Put back"),
  );
}

export async function throwAway(run) {
  const { trashed: name } = await request("DELETE", runPath(run.name));
  toast(`“${run.prompt}” is in the trash.`, async () => {
    const back = await request("POST", `trash/${encodeURIComponent(name)}/restore`);
    toast(`“${back.prompt}” is back.`);
  });
}
