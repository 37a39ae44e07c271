// Making, and everything made so far.
import { gallery } from "/page/gallery.js";
import { makeForm } from "/page/make.js";

export function showHome(main, _names, signal) {
  main.append(makeForm(signal), gallery(signal));
}
