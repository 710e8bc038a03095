// Films: one upload at a time, then a job that is watched until it ends; the list outlives a reload.

import { call, events, friendly, get, pause, upload } from "./api.js";
import { $, el, icon, note, say } from "./dom.js";
import { erase } from "./erase.js";
import { open, close } from "./result.js";
import { bytes, counted, date, duration, has, number, percent, t } from "./text.js";

const ENDED = new Set(["done", "failed", "cancelled"]);
const jobs = new Map();
const nodes = new Map();
let sending = null;
let shown = null;

const running = (job) => !ENDED.has(job.state);

function take(job) {
  jobs.set(job.id, { ...jobs.get(job.id), ...job });
  draw(job.id);
  if (shown === job.id && !running(job)) show(job.id);
}

function drop(id) {
  jobs.delete(id);
  nodes.get(id)?.remove();
  nodes.delete(id);
  $("jobs-none").hidden = jobs.size > 0 || sending !== null;
}

/** Follow a job until it ends; a connection that breaks is made again. */
async function watch(id) {
  if (jobs.get(id)?.watched) return;
  jobs.get(id).watched = true;
  for (let tries = 0; jobs.has(id) && running(jobs.get(id)); tries += 1) {
    try {
      if (tries) {
        await pause(Math.min(15, 2 ** (tries - 1)));
        take(await get(`v1/jobs/${id}`));
      }
      for await (const { event, data } of events(`v1/jobs/${id}/events`)) {
        tries = 0;
        if (!jobs.has(id)) return;
        take(data);
        if (event === "end") break;
      }
    } catch (error) {
      if (error.status === 404) return drop(id);
    }
  }
  const job = jobs.get(id);
  if (!job) return;
  job.watched = false;
  say(`${job.name}: ${t(`state.${job.state}`)}`);
}

function progress(job) {
  const { frames, total, fraction, frames_per_second: rate, eta_seconds: eta } = job.progress ?? {};
  const parts = [
    fraction === null || fraction === undefined ? null : percent(fraction),
    total ? t("film.frames.of", { n: number(frames ?? 0, 0), total: number(total, 0) }) : frames ? counted("film.frames", frames) : null,
    rate ? t("film.rate", { n: number(rate, rate < 10 ? 1 : 0) }) : null,
    eta === null || eta === undefined ? null : t("film.eta", { time: duration(eta) }),
  ];
  return parts.filter(Boolean).join(" · ");
}

function meter(share, name) {
  const bar = el("progress", { max: 1, "aria-label": name });
  if (share !== null && share !== undefined) bar.value = share;
  return bar;
}

const spoken = (job) => (has(`error.${job.error.code}`) ? t(`error.${job.error.code}`) : job.error.message);

function draw(id) {
  const job = jobs.get(id);
  if (!nodes.has(id)) {
    nodes.set(id, el("li", { class: "card job" }));
    $("jobs").prepend(nodes.get(id));
  }
  $("jobs-none").hidden = true;
  const node = nodes.get(id);
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const button = (key, kind, act, sign) => el("button", { type: "button", class: kind, "data-key": key, "aria-label": `${t(key)}: ${job.name}`, onclick: act }, sign ? icon(sign) : null, t(key));
  node.replaceChildren(
    el("div", { class: "what" },
      el("h3", {}, job.name),
      el("p", { class: "soft" }, el("span", { class: `state ${job.state}` }, t(`state.${job.state}`)), " ", date(job.created)),
      running(job) ? meter(job.state === "waiting" ? null : job.progress?.fraction, job.name) : null,
      job.state === "running" ? el("p", { class: "soft figures" }, progress(job)) : null,
      job.error ? el("p", { class: "note bad" }, spoken(job)) : null,
      job.expires ? el("p", { class: "soft" }, t("film.expires", { time: date(job.expires) })) : null),
    el("div", { class: "bar" },
      job.state === "done" ? el("a", { class: "button primary", href: `#film/${id}`, "data-key": "film.open", "aria-label": `${t("film.open")}: ${job.name}` }, t("film.open")) : null,
      running(job) ? button("film.cancel", "quiet", () => cancel(id)) : button("film.erase", "quiet", () => remove(id), "bin")),
  );
  if (focused) (node.querySelector(`[data-key="${focused}"]`) ?? node.querySelector("a, button"))?.focus({ preventScroll: true });
}

async function gone(id) {
  try {
    await call(`v1/jobs/${id}`, { method: "DELETE" });
  } catch (error) {
    if (error.status !== 404) return note($("film-error"), friendly(error));
  }
  const { name } = jobs.get(id) ?? {};
  drop(id);
  say(t("film.erased", { name }));
  if (shown === id) location.hash = "#film";
  else $("film-file").focus();
}

async function cancel(id) { if (await erase(t("erase.running", { name: jobs.get(id).name }))) await gone(id); }
async function remove(id) { if (await erase(t("erase.done", { name: jobs.get(id).name }))) await gone(id); }

/** Send a film, then watch it. */
export async function add(file) {
  if (sending) return note($("film-error"), t("film.one"));
  note($("film-error"), null);
  sending = new AbortController();
  const line = el("p", { class: "soft figures", role: "status" });
  const bar = meter(0, t("film.sending", { name: file.name }));
  const row = el("li", { class: "card job" }, el("div", { class: "what" }, el("h3", {}, file.name), bar, line),
    el("div", { class: "bar" }, el("button", { type: "button", class: "quiet", onclick: () => sending?.abort() }, t("cancel"))));
  $("jobs").prepend(row);
  $("jobs-none").hidden = true;
  const tell = (text) => { if (line.textContent !== text) line.textContent = text; };
  tell(t("film.upload", { share: percent(0), size: bytes(file.size) }));
  const form = new FormData();
  form.append("file", file, file.name);
  const query = new URLSearchParams({ every: $("film-every").value, annotate: String($("film-annotate").checked) });
  if ($("film-labels").value) query.set("labels", $("film-labels").value);
  try {
    const job = await upload(`v1/films?${query}`, form, {
      signal: sending.signal,
      onProgress: (share) => { bar.value = share; tell(t("film.upload", { share: percent(share), size: bytes(file.size) })); },
      onWait: (seconds) => { if (seconds) tell(t("pictures.busy", { n: Math.ceil(seconds) })); },
    });
    take(job);
    say(t("film.sent", { name: job.name }));
    watch(job.id);
  } catch (error) {
    if (error.name !== "AbortError") note($("film-error"), `${file.name}: ${friendly(error)}`);
  } finally {
    sending = null;
    row.remove();
    $("jobs-none").hidden = jobs.size > 0;
  }
}

/** Read the list of jobs anew. */
export async function refresh() {
  try {
    const found = await get("v1/jobs");
    const listed = (Array.isArray(found) ? found : found.jobs).sort((a, b) => a.created.localeCompare(b.created));
    for (const id of [...jobs.keys()]) if (!listed.some((job) => job.id === id)) drop(id);
    for (const job of listed) {
      take(job);
      if (running(job)) watch(job.id);
    }
    $("jobs-none").hidden = jobs.size > 0 || sending !== null;
  } catch (error) {
    note($("film-error"), friendly(error));
  }
}

/** Show the list, or the result of one film. */
export async function show(id) {
  shown = id ?? null;
  $("film-home").hidden = Boolean(id);
  $("film-result").hidden = !id;
  if (!id) {
    close();
    return refresh();
  }
  if (!jobs.has(id)) await refresh();
  if (shown !== id) return undefined;
  const job = jobs.get(id);
  if (!job) {
    note($("film-error"), t("error.404"));
    location.hash = "#film";
    return undefined;
  }
  return open(job, { remove: () => remove(id), progress: progress(job), error: job.error ? spoken(job) : null });
}

export function begin() {
  $("film-file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) add(file);
  });
  document.addEventListener("language", () => { for (const id of jobs.keys()) draw(id); });
  for (const change of ["language", "reader"]) document.addEventListener(change, () => { if (shown) show(shown); });
}
