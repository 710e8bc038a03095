// What is stored: as the service says it of itself, from its settings and its disk.

import { friendly, get } from "./api.js";
import { $, el, icon, note } from "./dom.js";
import { bytes, counted, current, date, t } from "./text.js";

const line = (key, text) => (text ? el("div", {}, el("dt", {}, t(key)), el("dd", {}, text)) : null);

function tile(item) {
  return el("li", { class: "tile" },
    el("h3", {}, item.title, item.count ? el("span", { class: "state" }, counted("items", item.count)) : null),
    el("p", {}, item.what),
    el("dl", { class: "said" }, line("stored.where", item.where), line("stored.long", item.how_long), item.stored ? line("stored.who", item.who) : null));
}

const group = (key, items) => (items.length ? [el("h2", {}, t(key)), el("ul", { class: "tiles" }, items.map(tile))] : []);

function disk(found) {
  return el("div", { class: "tile now" }, icon("stored"),
    el("div", {}, el("p", { class: "soft" }, t("stored.now")), el("p", { class: "big" }, found.bytes ? bytes(found.bytes) : t("stored.nothing")),
      found.next_deletion ? el("p", { class: "soft" }, t("stored.next", { time: date(found.next_deletion) })) : null),
    el("a", { href: "#film", class: "button" }, t("stored.films")));
}

export async function show() {
  note($("stored-error"), null);
  try {
    const found = await get(`v1/stored?lang=${current()}`);
    $("stored-body").replaceChildren(disk(found),
      ...group("stored.never", found.items.filter((one) => !one.stored)), ...group("stored.held", found.items.filter((one) => one.stored)));
  } catch (error) {
    note($("stored-error"), friendly(error));
  }
}
