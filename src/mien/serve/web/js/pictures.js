// Pictures: dropped, chosen, pasted or taken; at most two are on their way at once.

import { call, friendly } from "./api.js";
import { Bars, because, doubt, headline, ranked, words } from "./bars.js";
import { boxes, called, thumbnail } from "./boxes.js";
import { $, el, icon, save, say, stem } from "./dom.js";
import { counted, has, t } from "./text.js";

const AT_ONCE = 2;
const cards = [];
let running = 0;

class Card {
  constructor(file, query) {
    Object.assign(this, { file, query, name: file.name || t("pictures.pasted"), state: "waiting", wait: null, answer: null, face: 0 });
    this.stop = new AbortController();
    this.url = URL.createObjectURL(file);
    this.image = el("img", { alt: "", decoding: "async" });
    this.image.addEventListener("error", () => this.unshowable(), { once: true });
    this.image.addEventListener("load", () => this.render());
    this.image.src = this.url;
    this.node = el("article", { class: "card picture", "aria-label": this.name });
    this.render();
  }

  get picture() { return this.answer?.pictures[0]; }

  /** A picture that this browser cannot show is shown as the service drew it. */
  unshowable() {
    this.broken = true;
    if (this.picture?.annotated) this.image.src = this.picture.annotated;
    else this.render();
  }

  async send() {
    this.become("sending");
    const form = new FormData();
    form.append("file", this.file, this.name);
    try {
      const answer = await call(`v1/analyze?${this.query}`, {
        method: "POST", body: form, signal: this.stop.signal, onWait: (seconds) => { this.wait = seconds; this.become("sending"); },
      });
      this.answer = await answer.json();
      this.failed = this.picture.error && (has(`error.${this.picture.error.code}`) ? t(`error.${this.picture.error.code}`) : this.picture.error.message);
      if (this.broken && this.picture.annotated) this.image.src = this.picture.annotated;
      this.become(this.failed ? "failed" : "done");
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
      this.become("failed");
    }
    say(`${this.name}: ${this.summary()}`);
  }

  become(state) {
    this.state = state;
    this.render();
  }

  summary() {
    if (this.state === "failed") return this.failed ?? friendly(this.error);
    if (this.state !== "done") return this.wait ? t("pictures.busy", { n: Math.ceil(this.wait) }) : t(`pictures.${this.state}`);
    const { faces } = this.picture;
    if (!faces.length) return because(this.picture.reasons) || t("reason.no_face");
    return faces.length === 1 ? called(faces[0]) : counted("faces", faces.length);
  }

  choose(i) {
    this.face = i;
    this.render();
    say(t("face.named", { n: i + 1, what: called(this.picture.faces[i]) }));
  }

  render() {
    const at = this.node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const done = this.state === "done";
    const open = !this.broken || this.picture?.annotated;
    const stage = el("div", { class: "stage" }, open ? this.image : el("div", { class: "blank" }, icon("picture")));
    this.image.alt = done ? `${this.name}: ${this.summary()}` : this.name;
    if (done && this.picture.faces.length) stage.append(...this.overlay());
    this.node.replaceChildren(
      el("header", {}, el("h2", {}, this.name), this.remover()),
      el("div", { class: "split" }, el("div", { class: "holder" }, stage), el("div", { class: "panel" }, this.panel())),
    );
    this.node.setAttribute("aria-busy", String(this.state === "waiting" || this.state === "sending"));
    if (at) this.node.querySelector(`[data-key="${at}"]`)?.focus({ preventScroll: true });
    summarize();
  }

  overlay() {
    return boxes(this.picture, this.answer.labels, (i) => this.choose(i)).map((node, i) => {
      node.dataset.key = `box${i}`;
      node.setAttribute("aria-pressed", String(i === this.face));
      return node;
    });
  }

  remover() {
    return el("button", { type: "button", class: "quiet", "aria-label": t("pictures.remove", { name: this.name }), title: t("pictures.remove", { name: this.name }), onclick: () => this.remove() }, icon("close"));
  }

  remove() {
    this.stop.abort();
    URL.revokeObjectURL(this.url);
    const at = cards.indexOf(this);
    cards.splice(at, 1);
    const focused = this.node.contains(document.activeElement);
    this.node.remove();
    summarize();
    if (focused) (cards[Math.min(at, cards.length - 1)]?.node.querySelector("button") ?? $("pictures-file")).focus();
  }

  panel() {
    if (this.state === "failed") return [el("p", { class: "note bad" }, this.summary())];
    if (this.state !== "done") return [el("p", { class: "working" }, this.summary()), el("div", { class: "shimmer", "aria-hidden": "true" })];
    const { faces } = this.picture;
    return faces.length ? [this.chips(), ...this.reading(faces[this.face]), this.downloads()] : [...this.nothing(), this.downloads()];
  }

  nothing() {
    const first = words(this.picture.reasons)[0] ?? "no_face";
    return [
      el("p", { class: "verdict" }, because(this.picture.reasons) || t("reason.no_face")),
      el("p", { class: "soft" }, has(`hint.${first}`) ? t(`hint.${first}`) : this.picture.hint ?? ""),
    ];
  }

  chips() {
    const { faces } = this.picture;
    if (faces.length < 2) return null;
    return el("div", { class: "chips", role: "group", "aria-label": counted("faces", faces.length) }, faces.map((face, i) => el("button", {
      type: "button", class: "chip", "data-key": `chip${i}`, "aria-pressed": String(i === this.face), onclick: () => this.choose(i),
    }, this.image.naturalWidth ? thumbnail(this.image, this.picture, face.box) : null, el("span", {}, `${i + 1} ${headline(face)}`))));
  }

  reading(face) {
    const best = ranked(face);
    const why = because(face.reason);
    if (!best.length) return [el("p", { class: "verdict" }, headline(face)), el("p", { class: "soft" }, why)];
    const bars = new Bars(this.answer.labels, { caption: t("bars.of", { n: this.face + 1 }) }).show(face.scores, best[0][0]);
    return [
      el("p", { class: "verdict" }, headline(face)),
      face.undecided ? el("p", { class: "note even" }, el("strong", {}, doubt(this.answer.labels)), " ", doubt(this.answer.labels, best[0])) : null,
      why ? el("p", { class: "note warn" }, why) : null,
      bars.node,
    ];
  }

  downloads() {
    const { annotated, faces } = this.picture;
    const base = stem(this.name);
    const button = (key, act) => el("button", { type: "button", class: "small", "data-key": key, onclick: act }, icon("down"), t(key));
    return el("div", { class: "bar downloads" },
      this.answer.csv ? button("get.csv", () => save(this.answer.csv, `${base}.csv`, "text/csv")) : null,
      button("get.json", () => save(plain([this]), `${base}.json`, "application/json")),
      annotated && faces.length ? button("get.annotated", async () => save(bytesOf(annotated), `${base}-mien.jpg`)) : null);
  }
}

// A data address is not fetched: the policy of the page lets it connect to its own service only.
function bytesOf(address) {
  const [head, body] = address.split(",");
  return new Blob([Uint8Array.from(atob(body), (c) => c.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}

const finished = () => cards.filter((card) => card.state === "done");

function plain(chosen) {
  const [{ answer }] = chosen;
  const pictures = chosen.map(({ picture: { annotated, ...rest } }) => rest);
  return `${JSON.stringify({ model: answer.model, labels: answer.labels, pictures }, null, 1)}\n`;
}

/** One table of all: the header of the first, then the rows of each. Cards of other labels have another header. */
function table(chosen) {
  const groups = new Map();
  for (const { answer } of chosen) {
    const [, head, rows] = /^([^\n]*\n)([^]*)$/.exec(answer.csv);
    groups.set(head, (groups.get(head) ?? "") + rows);
  }
  return [...groups].map(([head, rows]) => head + rows).join("\n");
}

function summarize() {
  $("pictures-all").hidden = cards.length < 2;
  const faces = finished().reduce((sum, card) => sum + card.picture.faces.length, 0);
  $("pictures-count").textContent = `${counted("count.pictures", cards.length)} · ${counted("faces", faces)}`;
  for (const id of ["pictures-csv", "pictures-json"]) $(id).disabled = !finished().length;
}

function advance() {
  for (const card of cards) {
    if (running >= AT_ONCE) return;
    if (card.state !== "waiting") continue;
    running += 1;
    card.send().finally(() => { running -= 1; advance(); });
  }
}

/** Read some picture files; the newest stand first. */
export function add(files) {
  const query = new URLSearchParams({ include: "annotated,csv" });
  if ($("pictures-labels").value) query.set("labels", $("pictures-labels").value);
  if ($("pictures-best").checked) query.set("best_only", "true");
  const fresh = [...files].map((file) => new Card(file, query));
  cards.unshift(...fresh);
  $("pictures-list").prepend(...fresh.map((card) => card.node));
  summarize();
  advance();
}

export function begin() {
  for (const id of ["pictures-file", "pictures-shot"]) {
    $(id).addEventListener("change", ({ target }) => { add(target.files); target.value = ""; });
  }
  $("pictures-csv").addEventListener("click", () => save(table(finished()), "mien.csv", "text/csv"));
  $("pictures-json").addEventListener("click", () => save(plain(finished()), "mien.json", "application/json"));
  $("pictures-clear").addEventListener("click", () => { [...cards].forEach((card) => card.remove()); $("pictures-file").focus(); });
  for (const change of ["language", "reader"]) document.addEventListener(change, () => cards.forEach((card) => card.render()));
}
