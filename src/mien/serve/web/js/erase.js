// One question before something is erased for good: it says what goes.

import { $ } from "./dom.js";

export function erase(text) {
  const dialog = $("erase-dialog");
  $("erase-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
