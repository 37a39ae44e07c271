// Elements and words: the few helpers that all parts of the page share.

// h("p", { class: "x", onclick: f }, "text", child): an element. null, undefined and false are left
// out.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

const PATHS = {
  star: '<path d="m12 4 2.5 5.2 5.7.7-4.2 3.9 1.1 5.6L12 16.7l-5.1 2.7L8 13.8 3.8 9.9l5.7-.7z"/>',
  pause: '<path d="M9 6v12M15 6v12"/>',
  play: '<path class="solid" d="M8.5 6v12l9.5-6z"/>',
  stop: '<rect x="7" y="7" width="10" height="10" rx="1.5"/>',
  back: '<path d="m14 6-6 6 6 6"/>',
  trash: '<path d="M5 7.5h14M10 7V5h4v2M7 7.5l.8 11.5h8.4L17 7.5"/>',
  turn: '<path d="M19.5 12a7.5 7.5 0 1 1-2.6-5.7M17.5 2.8v3.9h-3.9"/>',
};

// A drawing beside words that say the same.
export function icon(name) {
  const holder = h("span", { class: `icon ${name}`, "aria-hidden": "true" });
  holder.innerHTML = `<svg viewBox="0 0 24 24">${PATHS[name]}</svg>`;
  return holder;
}

export const plural = (count, word) =>
  `${count.toLocaleString("en").replaceAll(",", "\u202f")} ${word}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 6) / 10} h`;
}

export function bytes(count) {
  return count < 1e5 ? `${(count / 1e3).toFixed(1)} KB` : `${(count / 1e6).toFixed(1)} MB`;
}

// A sentence at the page's foot, for a while; with a button where there is something to do about
// it.
export function toast(sentence, action, label = "Undo") {
  const done = () => element.remove();
  const button =
    action &&
    h("button", { type: "button", onclick: () => (done(), action()) }, label);
  const element = h("p", { class: "toast" }, sentence, button);
  document.getElementById("toasts").append(element);
  setTimeout(done, action ? 12000 : 7000);
}

export const stillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
