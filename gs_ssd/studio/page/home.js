// Making, and everything made so far.
import { gallery } from "/page/gallery.js";
import { makeForm } from "/page/make.js";

export function showHome(main, _names, signal) {
  main.append(makeForm(signal, { heading: "h1" }), gallery(signal));
  // Ready to be typed into; not where that would raise a keyboard over half of the screen.
  if (matchMedia("(hover: hover)").matches) document.getElementById("prompt").focus({ preventScroll: true });
}
