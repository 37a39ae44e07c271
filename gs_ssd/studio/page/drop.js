// Files that are dropped anywhere on the page, or chosen, are opened.
import { request } from "/page/api.js";
import { toast } from "/page/dom.js";

export function attachDrop() {
  const sign = document.getElementById("drop");
  let inside = 0;
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    inside++;
    sign.hidden = false;
  });
  addEventListener("dragleave", () => {
    inside = Math.max(0, inside - 1);
    sign.hidden = inside === 0;
  });
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    [inside, sign.hidden] = [0, true];
    const [file] = event.dataTransfer.files;
    if (file) open(file);
  });
}

export async function open(file) {
  toast(`Opening ${file.name}…`);
  try {
    const kept = await request("POST", `uploads?name=${encodeURIComponent(file.name)}`, file);
    location.hash = `#/file/${encodeURIComponent(kept.name)}`;
  } catch (error) {
    toast(error.message);
  }
}
