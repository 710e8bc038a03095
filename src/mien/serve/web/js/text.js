// The words of the page: one file a language, English where a word is missing; numbers and times as the language writes them.

export const LANGUAGES = { en: "English", zh: "中文", ru: "Русский" };
const LOCALES = { en: "en", zh: "zh-Hans", ru: "ru" };
const files = {};
let language = "en";

const held = () => { try { return localStorage.getItem("mien.language"); } catch { return null; } };

function wished() {
  const known = (tag) => Object.keys(LANGUAGES).find((one) => (tag ?? "").toLowerCase().split("-")[0] === one);
  return known(held()) ?? navigator.languages.map(known).find(Boolean) ?? "en";
}

async function read(name) {
  files[name] ??= await fetch(`web/texts/${name}.json`).then((answer) => answer.json());
}

export async function begin() { await choose(wished()); }

export async function choose(name, { keep = false } = {}) {
  await Promise.all([read("en"), read(name)]);
  language = name;
  if (keep) try { localStorage.setItem("mien.language", name); } catch { /* nothing may be kept here: fine */ }
  document.documentElement.lang = LOCALES[name];
  translate(document);
  document.dispatchEvent(new Event("language"));
}

export const current = () => language;
const locale = () => LOCALES[language];

function look(part, key) { return files[language]?.[part]?.[key] ?? files.en?.[part]?.[key]; }

export const has = (key) => look("page", key) !== undefined;

/** The text of a key with its values in place of {name}. */
export function t(key, values = {}) {
  return (look("page", key) ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The text of a key for a count: key.one, key.few, key.many, key.other. */
export function counted(key, n, values = {}) {
  const form = new Intl.PluralRules(locale()).select(n);
  const filled = { n: new Intl.NumberFormat(locale()).format(n), ...values };
  return t(has(`${key}.${form}`) ? `${key}.${form}` : `${key}.other`, filled);
}

export const policy = (key) => look("policy", key);
export const label = (name) => (has(`label.${name}`) ? t(`label.${name}`) : name);

export function number(value, digits = 2) {
  return new Intl.NumberFormat(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

const unit = (value, name, digits = 0) =>
  new Intl.NumberFormat(locale(), { style: "unit", unit: name, maximumFractionDigits: digits }).format(value);

export function bytes(n) {
  const steps = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const at = Math.min(steps.length - 1, n < 1 ? 0 : Math.floor(Math.log10(n) / 3));
  const value = n / 1000 ** at;
  return unit(value, steps[at], at && value < 10 ? 1 : 0);
}

export const percent = (share) => new Intl.NumberFormat(locale(), { style: "percent" }).format(share);
export const milliseconds = (value) => unit(value, "millisecond");

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return unit(whole, "second");
  if (whole < 3600) return `${unit(Math.floor(whole / 60), "minute")} ${unit(whole % 60, "second")}`;
  if (whole < 172_800) return `${unit(Math.floor(whole / 3600), "hour")} ${unit(Math.floor((whole % 3600) / 60), "minute")}`;
  return unit(Math.round(whole / 86_400), "day");
}

/** A time in a film: 1:02.5 or 1:01:02.5. */
export function clock(seconds, digits = 1) {
  const scale = 10 ** digits;
  const ticks = Math.max(0, Math.round(seconds * scale));
  const two = (n) => String(n).padStart(2, "0");
  const whole = Math.floor(ticks / scale);
  const rest = digits ? `.${String(ticks % scale).padStart(digits, "0")}` : "";
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}${rest}`;
}

export function date(iso) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

export const list = (words, type = "conjunction") => new Intl.ListFormat(locale(), { type }).format(words);

/** Put the words into what the document says with data-text and data-label. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) {
    const words = t(node.dataset.label);
    node.setAttribute("aria-label", words);
    if (node.matches("button")) node.title = words;
  }
}
