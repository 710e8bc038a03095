// What is stored: what the service says of itself, as it says it.

import { friendly, get } from "./api.js";
import { $, el, note } from "./dom.js";
import { current, t } from "./text.js";

export async function show() {
  note($("stored-error"), null);
  try {
    const found = await get(`v1/stored?lang=${current()}`);
    $("stored-body").replaceChildren(el("pre", {}, JSON.stringify(found, null, 1)), t("stored.films"));
  } catch (error) {
    note($("stored-error"), friendly(error));
  }
}
