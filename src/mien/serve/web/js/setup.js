// What the service is used for: the uses that are allowed, those that are refused and why.

import { call, friendly, get } from "./api.js";
import { $, el, note, say } from "./dom.js";
import { current, t } from "./text.js";

let held = null;
let heard = () => {};

export const declared = () => Boolean(held?.purpose);

/** Read what is declared; gives it. */
export async function read() {
  held = await get(`v1/policy?lang=${current()}`);
  heard(held);
  return held;
}

function choice(purpose) {
  const id = `purpose-${purpose.id}`;
  const input = el("input", { type: "radio", name: "purpose", id, value: purpose.id, required: true, checked: held.purpose === purpose.id, "aria-describedby": `${id}-why`, onchange: words });
  return el("div", { class: "choice" }, input, el("div", {}, el("label", { for: id }, purpose.title), el("p", { class: "soft", id: `${id}-why` }, purpose.reason)));
}

function words() { $("setup-note").required = $("setup-form").elements.purpose.value === "other"; }

function refused(purpose) {
  return el("li", {}, el("strong", {}, purpose.title), el("p", { class: "soft" }, purpose.reason),
    purpose.law?.length ? el("p", { class: "law" }, purpose.law.join("; ")) : null);
}

export async function show() {
  note($("setup-error"), null);
  try {
    await read();
  } catch (error) {
    return note($("setup-error"), friendly(error));
  }
  const chosen = held.purposes.find((one) => one.id === held.purpose);
  $("setup-form").hidden = held.fixed;
  if (held.fixed) note($("setup-error"), t("setup.fixed", { purpose: chosen?.title ?? held.purpose }));
  $("setup-error").className = held.fixed ? "note" : "note bad";
  $("setup-allowed").replaceChildren(...held.purposes.filter((one) => one.allowed).map(choice));
  $("setup-refused").replaceChildren(...held.purposes.filter((one) => !one.allowed).map(refused));
  $("setup-note").value = held.note ?? "";
  $("setup-note").maxLength = held.note_characters ?? 500;
  return words();
}

async function submit(event) {
  event.preventDefault();
  note($("setup-error"), null);
  try {
    await call("v1/policy", { method: "POST", json: { purpose: $("setup-form").elements.purpose.value, note: $("setup-note").value.trim() } });
    await read();
    say(t("setup.done"));
    location.hash = "#pictures";
  } catch (error) {
    note($("setup-error"), friendly(error));
    $("setup-error").scrollIntoView({ block: "center" });
  }
}

export function begin(listener) {
  heard = listener;
  $("setup-form").addEventListener("submit", submit);
}
