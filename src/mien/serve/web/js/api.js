// Everything that goes to the service: with the token, with patience where it says so, with one shape of errors.

import { has, t } from "./text.js";

const HELD = "mien.token";
const PATIENCE = 12;
let ask = async () => null;
let asking = null;

export class Problem extends Error {
  constructor(status, { code = "", message = "", hint = null } = {}, wait = null) {
    super(message);
    Object.assign(this, { status, code, hint, wait });
  }

  /** One line in the language of the page, and what to do. */
  get friendly() {
    if (has(`error.${this.code}`)) return t(`error.${this.code}`);
    if (has(`error.${this.status}`)) return t(`error.${this.status}`);
    return [this.message, this.hint].filter(Boolean).join(". ") || t("error.failed");
  }
}

export const friendly = (error) => (error instanceof Problem ? error.friendly : t("error.failed"));

/** Say who asks the person for a token: a function that is told whether one was refused and gives one, or null. */
export function onToken(asker) { ask = asker; }
export const token = () => sessionStorage.getItem(HELD);
export function forget() { sessionStorage.removeItem(HELD); }
export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** Ask for a token once, however many requests want one; true when there is a new one. */
async function renewed(used) {
  if (token() && token() !== used) return true;
  asking ??= ask(Boolean(used)).finally(() => { asking = null; });
  const given = await asking;
  if (given) sessionStorage.setItem(HELD, given);
  return Boolean(given);
}

export async function problemOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const after = Number(answer.headers.get("Retry-After"));
  return new Problem(answer.status, body.error ?? { message: answer.statusText }, after > 0 ? after : null);
}

export const pause = (seconds, signal) => new Promise((done, stop) => {
  const timer = setTimeout(done, seconds * 1000);
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(signal.reason); }, { once: true });
});

/** Do something until the service takes it: a new token after 401, the wait that it asks for after 429. */
async function patiently(once, { onWait = () => {}, signal } = {}) {
  for (let tries = 0; ; tries += 1) {
    const used = token();
    try {
      return await once();
    } catch (problem) {
      if (!(problem instanceof Problem) || tries >= PATIENCE) throw problem;
      if (problem.status === 401 && await renewed(used)) continue;
      if (problem.status !== 429) throw problem;
      const seconds = Math.min(60, problem.wait ?? 2 ** Math.min(tries, 5));
      onWait(seconds);
      await pause(seconds, signal);
      onWait(null);
    }
  }
}

/** Send a request; gives the answer, or throws a `Problem`. `onWait` hears the seconds of a wait, then null. */
export function call(path, { method = "GET", body, json, signal, onWait, headers = {} } = {}) {
  const sent = json === undefined ? body : JSON.stringify(json);
  const kind = json === undefined ? {} : { "Content-Type": "application/json" };
  return patiently(async () => {
    let answer;
    try {
      answer = await fetch(path, {
        method, body: sent, signal, headers: { ...headers, ...kind, ...authorization() }, credentials: "omit", cache: "no-store",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { code: "network" });
    }
    if (!answer.ok) throw await problemOf(answer);
    return answer;
  }, { onWait, signal });
}

export const get = async (path, options) => (await call(path, options)).json();

/** Send a form and hear how much of it went; gives the JSON of the answer. */
export function upload(path, form, { onProgress = () => {}, onWait, signal } = {}) {
  const once = () => new Promise((done, stop) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (e) => { if (e.lengthComputable) onProgress(e.loaded / e.total); });
    request.addEventListener("load", () => {
      if (request.status < 300) return done(request.response);
      const after = Number(request.getResponseHeader("Retry-After"));
      return stop(new Problem(request.status, request.response?.error, after > 0 ? after : null));
    });
    request.addEventListener("error", () => stop(new Problem(0, { code: "network" })));
    request.addEventListener("abort", () => stop(new DOMException("", "AbortError")));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
  return patiently(once, { onWait, signal });
}

/** Server-sent events, read from a fetch so that the token goes with it; ends when the service ends them. */
export async function* events(path, signal) {
  const answer = await call(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (held + value.replaceAll("\r", "")).split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const found = { event: "message", data: "" };
      for (const line of block.split("\n")) {
        const [, name, rest] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name === "event") found.event = rest;
        if (name === "data") found.data += rest;
      }
      if (found.data) yield { event: found.event, data: JSON.parse(found.data) };
    }
  }
}
