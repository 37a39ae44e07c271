// A button for every place that a splat can go to, and how to get it in there.
import { bytes, h } from "/page/dom.js";
import { getForm, request } from "/page/api.js";

// `path`: of the run or upload in the interface.
export function exportPanel(path, signal) {
  const buttons = h("div", { class: "targets" });
  const result = h("div", { class: "result", role: "status" });
  const write = async ({ name, title }, button) => {
    button.disabled = true;
    result.replaceChildren(h("p", {}, `Writing for ${title}…`));
    try {
      const { url, file, hint, bytes: size } = await request("POST", `${path}/exports/${name}`);
      const link = h("a", { href: url, download: file }, file);
      result.replaceChildren(h("p", {}, link, ` ${bytes(Number(size))}`), h("p", { class: "hint" }, h("b", {}, "Next: "), `${hint}.`));
      link.click();
    } catch (error) {
      result.replaceChildren(h("p", { class: "bad" }, error.message));
    }
    button.disabled = false;
  };
  getForm().then(({ targets }) => {
    if (signal.aborted) return;
    for (const target of targets) {
      const label = [target.title, h("small", {}, target.suffix)];
      const button = h("button", { type: "button", class: "target", title: target.hint }, ...label);
      button.addEventListener("click", () => write(target, button));
      buttons.append(button);
    }
  });
  return h(
    "section",
    { class: "exports" },
    h("h2", {}, "Export for"),
    buttons,
    result,
  );
}
