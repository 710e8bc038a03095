// The scores of one face as bars, its name in words, and why it has none.

import { el } from "./dom.js";
import { colours, GREY, ink } from "./palette.js";
import { has, label, number, t } from "./text.js";

export const words = (reason) => (Array.isArray(reason) ? reason : (reason ?? "").split("|")).filter(Boolean);

/** Labels of a face's scores, the highest first. */
export function ranked(face) {
  return Object.entries(face.scores ?? {}).filter(([, p]) => p !== null).sort((a, b) => b[1] - a[1]);
}

/** In words: "happy 0.93", "between happy and neutral", or why there is nothing. */
export function headline(face) {
  const [first, second] = ranked(face);
  if (!first) return t("face.unread");
  if (!face.top) return t("face.unnamed");
  if (face.undecided && second) return t("face.between", { first: label(first[0]), second: label(second[0]) });
  return label(first[0]);
}

let voted = false;

/** Hear which model reads: only one that learned from the votes of many people says how people would label a face. */
export function reads(model) { voted = Boolean(model?.heads[0]?.name === "crowd"); }

/** What a flat row of scores means; FER2013's own seven labels are one label a face, not votes. */
export function doubt(labels, best = null) {
  const people = voted && labels.length !== 7;
  if (!best) return t(people ? "undecided" : "undecided.model");
  const values = { label: label(best[0]), score: number(best[1]) };
  return people ? t("undecided.why", values) : t("undecided.model.why", values);
}

export const because = (reason) => words(reason).map((one) => (has(`reason.${one}`) ? t(`reason.${one}`) : one)).join(" ");

/** Paint a node in the colour of a label: --colour and, for words on it, --ink. */
export function paint(node, colour) {
  node.style.setProperty("--colour", colour ?? GREY);
  node.style.setProperty("--ink", ink(colour ?? GREY));
  return node;
}

function row(name, colour) {
  const fill = el("i", {});
  const value = el("td", { class: "value" });
  const line = el("tr", {}, el("th", { scope: "row" }, label(name)), el("td", { class: "meter", "aria-hidden": "true" }, el("span", {}, fill)), value);
  paint(line, colour);
  return { name, line, fill, value };
}

/** A table with one bar a label that can be given new scores: steady rows, so that the eye stays where it is. */
export class Bars {
  constructor(labels, { caption, given = null } = {}) {
    const paints = colours(labels, given);
    this.rows = labels.map((name) => row(name, paints[name]));
    this.node = el("table", { class: "bars" }, el("caption", { class: "unseen" }, caption ?? t("bars.caption")),
      el("tbody", {}, this.rows.map((one) => one.line)));
  }

  show(scores, top = null) {
    for (const { name, line, fill, value } of this.rows) {
      const p = scores?.[name];
      const known = typeof p === "number";
      fill.style.setProperty("width", `${known ? 100 * p : 0}%`);
      const text = known ? number(p) : "–";
      if (value.textContent !== text) value.textContent = text;
      line.classList.toggle("best", name === top);
    }
    return this;
  }
}
