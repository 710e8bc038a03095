// What came of one film: the annotated film, a timeline of every track, files to take along.

import { call, friendly, get, token } from "./api.js";
import { Bars, doubt, paint } from "./bars.js";
import { $, el, icon, save, stem } from "./dom.js";
import { colours } from "./palette.js";
import { bytes, clock, counted, label, t } from "./text.js";
import { Timeline } from "./timeline.js";

let url = null;
let opened = 0;
let held = { id: null, film: null, timeline: null };

export function close() {
  opened += 1;
  if (url) URL.revokeObjectURL(url);
  url = null;
  held = { id: null, film: null, timeline: null };
  $("film-result").replaceChildren();
}

const named = (job, name) => job.results?.find((one) => one.name === name);
// From the root of the service, which need not be that of the host.
const address = (one) => one.url.replace(/^\//, "");

/** Fetch a result as a file. Without tokens the browser does it, so that a large film never lies in its memory. */
async function fetchFile(job, one, button) {
  const name = `${stem(job.name)}-${one.name}`;
  if (!token()) return el("a", { href: address(one), download: name }).click();
  button.disabled = true;
  try {
    save(await (await call(address(one))).blob(), name);
  } finally {
    button.disabled = false;
  }
  return undefined;
}

/** Where the film can be played from: its address, or with tokens, which a player cannot send, its bytes. */
async function playable(job) {
  const one = named(job, "annotated.mp4");
  if (!one) return null;
  if (!token()) return address(one);
  url = URL.createObjectURL(await (await call(address(one))).blob());
  return url;
}

// As the service has it: fewer than half of people would give the best label.
const UNDECIDED = 0.5;

const KINDS = { "faces.csv": "faces", "faces.jsonl": "faces", "faces.parquet": "faces", "frames.parquet": "frames", "tracks.parquet": "tracks", "timeline.json": "timeline", "annotated.mp4": "annotated" };

function files(job) {
  return el("ul", { class: "files" }, job.results.map((one) => {
    const what = KINDS[one.name] ? t(`result.${KINDS[one.name]}`) : "";
    const button = el("button", { type: "button", onclick: () => fetchFile(job, one, button) }, icon("down"),
      el("span", {}, el("b", {}, one.name), el("small", {}, [what, one.bytes ? bytes(one.bytes) : null].filter(Boolean).join(" · "))));
    return el("li", {}, button);
  }));
}

/** Who is there at a time, and with which scores. */
function readout(timeline, node) {
  const paints = colours(timeline.labels, timeline.colours);
  const bars = new Map();
  const none = el("p", { class: "soft" });
  const when = el("h2", { class: "when" });
  node.replaceChildren(when, none);
  const block = (track) => {
    if (!bars.has(track.id)) {
      const said = el("b"), even = el("span", { class: "even" });
      const one = new Bars(timeline.labels, { caption: t("bars.track", { n: track.id }), given: timeline.colours });
      bars.set(track.id, { said, even, one, node: el("div", { class: "at" }, el("p", { class: "who" }, `${t("track", { n: track.id })} `, said, " ", even), one.node) });
    }
    return bars.get(track.id);
  };
  return (seconds, present) => {
    when.textContent = clock(seconds);
    none.textContent = present.length ? "" : t("timeline.nobody");
    none.hidden = present.length > 0;
    const now = present.slice(0, 4).map(({ track, scores, run }) => {
      const { said, even, one, node: part } = block(track);
      said.textContent = label(run.label);
      even.textContent = Math.max(...scores) < UNDECIDED ? doubt(timeline.labels) : "";
      paint(part, paints[run.label]);
      one.show(Object.fromEntries(timeline.labels.map((name, i) => [name, scores[i]])), run.label);
      return part;
    });
    const shown = [...node.children].slice(2);
    if (shown.length !== now.length || shown.some((one, i) => one !== now[i])) {
      shown.forEach((one) => one.remove());
      node.append(...now);
    }
  };
}

async function pieces(job) {
  if (held.id === job.id) return held;
  const one = named(job, "timeline.json");
  const timeline = one ? await get(address(one)) : null;
  return { id: job.id, timeline, film: await playable(job) };
}

function unfinished(job, { progress, error }) {
  return error ? el("p", { class: "note bad" }, error) : el("p", { class: "working" }, `${t(`state.${job.state}`)} ${progress}`);
}

/** Draw the result of a job into the page. */
export async function open(job, { remove, progress, error }) {
  const turn = (opened += 1);
  const title = el("h1", { tabindex: -1 }, job.name);
  const body = el("div", {}, job.state === "done" ? el("p", { class: "working" }, t("loading")) : unfinished(job, { progress, error }));
  $("film-result").replaceChildren(
    el("p", {}, el("a", { href: "#film", class: "back" }, `← ${t("film.back")}`)), title, body,
  );
  if (job.state !== "done") return;
  try {
    const found = await pieces(job);
    if (turn !== opened) return;
    held = found;
    body.replaceChildren(...whole(job, found, remove));
  } catch (problem) {
    if (turn === opened) body.replaceChildren(el("p", { class: "note bad" }, friendly(problem)));
  }
}

function whole(job, { timeline, film }, remove) {
  const end = [
    el("h2", {}, t("result.files")), files(job),
    el("h2", {}, t("result.erase")), el("p", { class: "soft" }, t("result.erase.what")),
    el("button", { type: "button", class: "danger", onclick: remove }, icon("bin"), t("film.erase")),
  ];
  if (!timeline) return end;
  const facts = [clock(timeline.seconds), counted("tracks", timeline.tracks.length), counted("cuts", timeline.cuts.length)].join(" · ");
  if (!timeline.tracks.length) return [el("p", { class: "soft" }, facts), player(film), el("p", { class: "note" }, t("timeline.empty")), ...end];
  const beside = el("div", { class: "panel readout" });
  const video = player(film);
  const show = readout(timeline, beside);
  const lanes = new Timeline(timeline, {
    onTime: (seconds, { seek }) => {
      show(seconds, lanes.present(seconds));
      if (seek && video && Math.abs(video.currentTime - seconds) > 0.01) video.currentTime = seconds;
    },
  });
  follow(video, lanes);
  const result = [
    el("p", { class: "soft" }, facts),
    el("div", { class: "watch" }, video, beside, lanes.node), ...end,
  ];
  lanes.go(lanes.first(), { seek: true });
  return result;
}

function player(film) {
  return film ? el("video", { src: film, controls: true, playsinline: true, preload: "metadata", class: "film", "aria-label": t("result.annotated") }) : null;
}

// While it plays, the head of the timeline goes with the film; requestVideoFrameCallback is not everywhere.
function follow(video, lanes) {
  if (!video) return;
  const step = () => {
    lanes.go(video.currentTime, { seek: false });
    if (!video.paused && !video.ended && video.isConnected) requestAnimationFrame(step);
  };
  video.addEventListener("play", step);
  video.addEventListener("seeked", () => { if (video.paused) lanes.go(video.currentTime, { seek: false }); });
}
