// All settings as a form, made of what the server says of them: names, bounds, choices, docs.
import { h } from "/page/dom.js";

const FIRST = {
  num_steps: ["Steps", "More steps: finer, and longer."],
  seed: ["Seed", "The same seed gives the same result, another one differs in details; prior.variety under Advanced gives each seed other proportions."],
  "guidance.estimator": ["Estimator", "The score distillation formula."],
};

// `base`: settings of the preset; `given`: values to begin with. `values()`: those that were
// changed, as the server takes them.
export function settingsForm(offered, onchange, { base = {}, given = {} } = {}) {
  const known = new Map(offered.fields.map((field) => [field.key, field]));
  known.get("guidance.estimator").kind = "choice";
  known.get("guidance.estimator").choices = offered.estimators;
  const changed = new Map(Object.entries(given));
  const rows = [];
  let current = base;

  const standing = (field) => shown(changed.get(field.key) ?? current[field.key] ?? field.default);

  function row(field, [title, about] = [field.key, field.about]) {
    const id = `setting-${field.key}`;
    const note = h("p", { id: `${id}-about` }, explained(field, about));
    const control = make(field, id);
    control.addEventListener("input", () => {
      const value = field.kind === "bool" ? String(control.checked) : control.value.trim();
      if (value === shown(current[field.key] ?? field.default)) changed.delete(field.key);
      else changed.set(field.key, value === "" && field.open ? "null" : value);
      element.classList.toggle("changed", changed.has(field.key));
      onchange();
    });
    control.setAttribute("aria-describedby", note.id);
    const element = h("div", { class: `row ${field.kind}` }, h("label", { for: id }, title), control, note);
    const put = () => {
      const text = standing(field);
      if (field.kind === "bool") control.checked = text === "true";
      else control.value = text === "null" ? "" : text;
      element.classList.toggle("changed", changed.has(field.key));
    };
    put();
    rows.push({ element, put, text: `${field.key} ${field.about}`.toLowerCase(), field, control });
    return element;
  }

  const first = h(
    "div",
    { class: "rows" },
    Object.entries(FIRST).map(([key, words]) => row(known.get(key), words)),
  );
  return {
    element: h("div", {}, first, advanced(offered, row, rows)),
    values: () => Object.fromEntries(changed),
    rebase(settings) {
      current = settings;
      rows.forEach(({ put }) => put());
    },
    // What open settings become is shown where nothing was written.
    resolved({ num_steps: steps }) {
      const { control } = rows.find(({ field }) => field.key === "num_steps");
      if (document.activeElement !== control && !changed.has("num_steps")) control.value = steps;
    },
  };
}

// The rest, by section, built when it is first opened.
function advanced(offered, row, rows) {
  const body = h("div", { class: "advanced" });
  const details = h("details", {}, h("summary", {}, "Advanced"), body);
  details.addEventListener(
    "toggle",
    () => {
      const search = h("input", { type: "search", id: "find-setting", placeholder: "Find a setting" });
      body.append(h("label", { for: "find-setting", class: "sr" }, "Find a setting"), search);
      const sections = new Map();
      for (const field of offered.fields) {
        if (field.key in FIRST || field.key === "prompt") continue;
        const section = field.key.split(".").length > 1 ? field.key.split(".")[0] : "general";
        if (!sections.has(section)) sections.set(section, []);
        sections.get(section).push(row(field));
      }
      const parts = [...sections].map(([name, elements]) =>
        h(
          "details",
          { class: "section" },
          h("summary", {}, h("b", {}, name), " ", h("span", {}, (offered.sections[name] ?? "").replaceAll("`", ""))),
          ...elements,
        ),
      );
      body.append(...parts);
      search.addEventListener("input", () => find(search.value.trim().toLowerCase(), rows, parts));
    },
    { once: true },
  );
  return details;
}

// What the code says of a setting, without its marks, and the numbers that it takes.
function explained(field, about) {
  const bounds = field.bounds && !(field.key in FIRST) && `(${field.bounds.replaceAll("_", "\u202f").replaceAll("..", " to ")})`;
  return [about.replaceAll("`", ""), bounds].filter(Boolean).join(" ");
}

function find(words, rows, parts) {
  for (const { element, text } of rows)
    if (element.closest(".section")) element.hidden = Boolean(words) && !text.includes(words);
  for (const part of parts) {
    const left = [...part.querySelectorAll(".row")].some((element) => !element.hidden);
    part.hidden = !left;
    part.open = Boolean(words) && left;
  }
}

function make(field, id) {
  if (field.kind === "bool") return h("input", { type: "checkbox", id });
  if (field.kind === "choice") {
    const open = field.open ? [h("option", { value: "" }, "automatic")] : [];
    const choices = field.choices.map((word) => h("option", { value: word }, word));
    return h("select", { id }, ...open, ...choices);
  }
  const placeholder = field.open ? "automatic" : "";
  const inputmode = { int: "numeric", float: "decimal" }[field.kind];
  return h("input", { type: "text", id, inputmode, placeholder, autocomplete: "off", spellcheck: "false" });
}

function shown(value) {
  if (value === null || value === undefined) return "null";
  return typeof value === "string" ? value : JSON.stringify(value).replaceAll(",", ", ");
}
