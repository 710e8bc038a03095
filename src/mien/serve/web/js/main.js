// The page: which view is shown, its language and light, who asks, what stands at its foot.

import { get } from "./api.js";
import { reads } from "./bars.js";
import * as camera from "./camera.js";
import { $, el } from "./dom.js";
import * as drop from "./drop.js";
import * as films from "./films.js";
import * as phone from "./phone.js";
import * as pictures from "./pictures.js";
import * as setup from "./setup.js";
import * as stored from "./stored.js";
import * as token from "./token.js";
import { begin as beginText, choose, current, has, label, LANGUAGES, list, number, t } from "./text.js";

const VIEWS = { pictures: {}, film: films, camera, stored, setup };
const SETS = ["eight", "seven", "six", "five", "three"];
let place = null;
let models = null;
let version = null;

/** Show the view that the address names; #film/<id> is the result of one film. */
function route({ first = false } = {}) {
  const [name, rest] = location.hash.slice(1).split("/");
  const view = name in VIEWS ? name : "pictures";
  if (place === "camera" && view !== "camera") camera.stop();
  for (const one of Object.keys(VIEWS)) $(one).hidden = one !== view;
  for (const link of $("nav").children) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const done = VIEWS[view].show?.(rest ? decodeURIComponent(rest) : undefined);
  const moved = place !== null && !first;
  place = view;
  entitle();
  Promise.resolve(done).then(() => {
    if (!moved || document.querySelector("dialog[open]")) return;
    scrollTo(0, 0);
    const heading = [...$(view).querySelectorAll("h1")].find((one) => one.checkVisibility?.() ?? one.offsetParent);
    heading?.focus({ preventScroll: true });
  });
}

function entitle() {
  const key = { pictures: "nav.pictures", film: "nav.film", camera: "nav.camera", stored: "nav.stored", setup: "setup.title" }[place];
  document.title = `${t(key)} – mien`;
}

function languages() {
  $("language").replaceChildren(...Object.entries(LANGUAGES).map(([value, name]) => el("option", { value, lang: value }, name)));
  $("language").value = current();
  $("language").addEventListener("change", ({ target }) => choose(target.value, { keep: true }));
}

function theme() {
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("mien.theme", root.dataset.theme); } catch { /* nothing may be kept here: fine */ }
    document.dispatchEvent(new Event("theme"));
  });
}

const reader = () => models?.models.find((one) => one.in_use && one.labels);

/** The words to choose from are those that the model offers; its own, which come first, are not asked for by name. */
function options() {
  const own = reader();
  const sets = own?.offers.length ? own.offers : SETS;
  const named = (value) => (has(`labels.${value}`) ? t(`labels.${value}`) : list(own.labels.map(label)));
  for (const id of ["pictures-labels", "film-labels"]) {
    const held = $(id).value;
    $(id).replaceChildren(...sets.map((value, i) => el("option", { value: i ? value : "" }, named(value))));
    $(id).value = sets.includes(held) ? held : "";
    $(id).closest(".field").hidden = sets.length < 2;
  }
  const held = $("film-every").value || "1";
  $("film-every").replaceChildren(...[1, 2, 5, 10].map((value) => el("option", { value }, value === 1 ? t("every.1") : t("every.n", { n: value }))));
  $("film-every").value = held;
}

const value = (one) => `${number(one.value, 3)} (${number(one.low, 3)}–${number(one.high, 3)})`;

/** The score that says most of what the page shows: of the head that it shows, without twins in the data. */
function score(model) {
  const own = model.scores.filter((one) => one.metric.includes(`${model.heads[0]?.name} head`));
  const one = own.find((each) => each.split.includes("de-duplicated")) ?? own[0] ?? model.scores[0];
  return one ? `${model.name} ${value(one)}` : model.name;
}

function scores(model) {
  return model.scores.map((one) => el("tr", {}, el("td", {}, model.name), el("td", { lang: "en" }, one.metric), el("td", { lang: "en" }, `${one.data}, ${one.split}`),
    el("td", {}, number(one.n, 0)), el("td", {}, value(one))));
}

function foot() {
  for (const link of document.querySelectorAll(".notice-link")) link.href = `notice?lang=${current()}`;
  const listed = (models?.models ?? []).filter((one) => one.in_use);
  $("foot-models").hidden = !listed.length;
  $("foot-models-names").textContent = t("foot.models", { names: list(listed.map(score)) });
  $("foot-models-scores").replaceChildren(el("table", {}, el("caption", {}, t("foot.scores")),
    el("thead", {}, el("tr", {}, ["model", "metric", "data", "n", "value"].map((key) => el("th", { scope: "col" }, t(`foot.${key}`))))),
    el("tbody", {}, listed.map(scores))));
  $("foot-version").textContent = version ? t("foot.version", { version }) : "";
}

function purpose(policy) {
  const named = policy.purposes.find((one) => one.id === policy.purpose);
  $("undeclared").hidden = Boolean(policy.purpose);
  $("foot-purpose").textContent = named ? t("foot.purpose", { purpose: named.title }) : t("undeclared.link");
  return policy;
}

async function begin() {
  token.begin();
  await beginText();
  languages();
  theme();
  options();
  pictures.begin();
  films.begin();
  camera.begin();
  phone.begin();
  setup.begin(purpose);
  drop.begin({ pictures: pictures.add, film: films.add });
  document.addEventListener("language", () => {
    options();
    foot();
    entitle();
    setup.read().catch(() => {});
    if (["stored", "setup", "camera"].includes(place)) VIEWS[place].show();
  });
  foot();
  const policy = await setup.read().catch(() => null);
  if (policy && !policy.purpose && !location.hash) location.hash = "#setup";
  addEventListener("hashchange", () => route());
  route({ first: true });
  document.documentElement.dataset.ready = "";
  [models, version] = await Promise.all([
    get("v1/models").catch(() => null), get("v1/openapi.json").then((one) => one.info.version, () => null),
  ]);
  reads(reader());
  options();
  foot();
  document.dispatchEvent(new Event("reader"));
}

begin();
