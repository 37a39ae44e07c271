// The form: a prompt, a preset, and behind a fold everything else.
import { completion } from "/page/complete.js";
import { getForm, request, runs } from "/page/api.js";
import { h, toast } from "/page/dom.js";
import { settingsForm } from "/page/settings.js";

const PAUSE_MS = 250; // after the last key, before the server is asked whether it can run
const PATIENCE_MS = 2500; // with somebody who is writing a word that the model may know

// Options: `fixed` goes into every wish (a fork, a start); `prompt`, `preset` and `settings` are
// what it begins with; `heading`, `label`, `button` its words.
export function makeForm(signal, options = {}) {
  const { fixed = {}, heading = "h2", label = "What do you want to make?", button = "Make it" } = options;
  const input = h("input", {
    id: "prompt",
    name: "prompt",
    type: "text",
    autocomplete: "off",
    spellcheck: "true",
    maxlength: "2000",
    placeholder: "a red mushroom",
    value: options.prompt ?? "",
  });
  const submit = h("button", { class: "primary", type: "submit" }, button);
  const verdict = h("p", { id: "verdict", role: "status" });
  const presets = h("fieldset", { class: "presets" }, h("legend", { class: "sr" }, "Preset"));
  const folded = h("div", { class: "folded" });
  const more = h("details", {}, h("summary", {}, "Settings"), folded);
  const words = h("div", { class: "words" });
  const form = h(
    "form",
    { class: "make", novalidate: true },
    h(heading, { class: "ask" }, h("label", { for: "prompt" }, label)),
    h("div", { class: "line" }, input, submit),
    words,
    presets,
    verdict,
    more,
  );
  const state = { preset: options.preset ?? "quick", anyway: false, settings: null };

  const wish = () => ({
    prompt: input.value.trim(),
    preset: state.preset,
    settings: state.settings?.values() ?? {},
    anyway: state.anyway,
    ...fixed,
  });

  const judge = later(async () => {
    if (!input.value.trim()) return say({ error: null, notes: [] }, true);
    try {
      say(await request("POST", "check", wish()));
    } catch (error) {
      say({ error: error.message, notes: [] });
    }
  }, signal);

  // Whoever is in the middle of a word is not told that there is no such thing.
  function say(answer, empty = false) {
    clearTimeout(state.waiting);
    submit.disabled = empty || Boolean(answer.error);
    const inAWord = answer.may_try && words.children.length && document.activeElement === input;
    if (!inAWord) return tell(answer);
    verdict.replaceChildren();
    state.waiting = setTimeout(() => tell(answer), PATIENCE_MS);
  }

  function tell({ error, notes, may_try: mayTry, ...found }) {
    verdict.className = error ? "bad" : "";
    verdict.replaceChildren();
    if (error) verdict.append(sentence(error), mayTry ? tryAnyway() : "");
    else verdict.append(...notes.map((note) => h("span", {}, sentence(note))));
    if (found.num_steps) state.settings?.resolved(found);
  }

  function tryAnyway() {
    const again = () => {
      state.anyway = true;
      judge();
    };
    return h("button", { type: "button", class: "quiet", onclick: again }, "Try it anyway");
  }

  input.addEventListener("input", () => {
    state.anyway = false;
    judge();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (submit.disabled && !input.value.trim()) return input.focus();
    submit.disabled = true;
    try {
      const run = await request("POST", "runs", wish());
      runs.put(run);
      location.hash = `#/run/${encodeURIComponent(run.name)}`;
    } catch (error) {
      say({ error: error.message, notes: [] });
    }
  });

  getForm().then((offered) => {
    if (signal.aborted) return;
    const chosen = () => offered.presets.find(({ name }) => name === state.preset);
    if (!fixed.fork) presets.append(...presetButtons(offered.presets, state, () => changed()));
    else presets.remove();
    const base = () => ({ ...chosen()?.settings, ...options.settings });
    state.settings = settingsForm(offered, judge, { base: base(), given: options.given });
    folded.append(state.settings.element);
    const changed = () => {
      state.settings.rebase(base());
      learn();
      judge();
    };
    const teach = completion(input, words, signal);
    const learn = () => teach(offered.vocabularies[base()["prior.model"] ?? "bundled"]);
    learn();
    judge();
  }, (error) => toast(error.message));
  say({ error: null, notes: [] }, true);
  return form;
}

function presetButtons(offered, state, changed) {
  const about = h("p", { class: "about" });
  const tell = () => {
    about.textContent = offered.find(({ name }) => name === state.preset)?.about ?? "";
  };
  const choices = offered.map(({ name, title }) => {
    const radio = h("input", { type: "radio", name: "preset", value: name, id: `preset-${name}` });
    radio.checked = name === state.preset;
    radio.addEventListener("change", () => {
      state.preset = name;
      tell();
      changed();
    });
    return h("span", {}, radio, h("label", { for: `preset-${name}` }, title));
  });
  tell();
  return [h("div", { class: "segments" }, ...choices), about];
}

// Sentences of the server begin small; keys stay as they are written.
function sentence(text) {
  const isKey = /^[a-z]+[_.]\w/.test(text);
  const whole = isKey ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(whole) ? whole : `${whole}.`;
}

function later(action, signal) {
  let timer = 0;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, PAUSE_MS);
  };
}
