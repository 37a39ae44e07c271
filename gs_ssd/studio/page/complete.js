// Words that the prior knows, offered while one types: colours, attributes, then kinds.
import { h } from "/page/dom.js";

const MOST = 9;

// Fills `holder` with words that continue from what stands in `input`. Tab and the arrow keys reach
// them; a click puts one in.
// Returns what is to be called with a model's words, or nothing where it has no list of its own.
export function completion(input, holder, signal) {
  let [kinds, colors, known] = [[], [], []];
  holder.setAttribute("role", "group");
  holder.setAttribute("aria-label", "Words that the model knows");

  function offer() {
    const text = input.value;
    const begun = /[^\s]*$/.exec(text)[0].toLowerCase();
    const before = text.slice(0, text.length - begun.length).toLowerCase();
    const has = (words) => words.some((word) => ` ${before}`.includes(` ${word} `));
    let words = known.filter((word) => word.startsWith(begun) && word !== begun);
    if (!begun) words = has(kinds) ? [] : has(colors) ? kinds : some([...colors, ...kinds]);
    if (begun && known.includes(begun)) words = [];
    holder.replaceChildren(...words.slice(0, MOST).map((word) => button(word, text, begun)));
  }

  function button(word, text, begun) {
    const put = () => {
      const start = text.slice(0, text.length - begun.length);
      const article = start ? "" : "aeiou".includes(word[0]) ? "an " : "a ";
      input.value = `${start}${article}${word}${kinds.includes(word) ? "" : " "}`;
      input.focus();
      input.dispatchEvent(new Event("input", { bubbles: true }));
    };
    return h("button", { type: "button", class: "word", onclick: put }, word);
  }

  holder.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...holder.children];
    all[(all.indexOf(event.target) + step + all.length) % all.length]?.focus();
    event.preventDefault();
  });
  input.addEventListener("input", offer, { signal });
  return (vocabulary) => {
    kinds = vocabulary?.kinds ?? [];
    colors = vocabulary?.colors ?? [];
    known = [...colors, ...(vocabulary?.attributes ?? []), ...kinds];
    offer();
  };
}

// A few of each, the same every time.
function some(words) {
  if (words.length < 2 * MOST) return words;
  return words.filter((_, i) => i % 5 === 0);
}
