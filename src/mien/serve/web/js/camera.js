// The camera: live boxes and bars, a notice as long as it reads, nothing kept.

import { friendly } from "./api.js";
import { Bars, because, doubt, headline, paint, ranked } from "./bars.js";
import { $, el, note, reduced, say } from "./dom.js";
import { colours, GREY, ink } from "./palette.js";
import { Stream } from "./stream.js";
import { counted, milliseconds, number, t } from "./text.js";

const WIDTH = 640;
const LEAST_GAP = 1000 / 31;
const WORDS_EVERY = 200;
const SAID_EVERY = 5_000;
const MOST_PANELS = 4;

let live = null;

/** Why a camera cannot be used here; null when it can. */
function hindrance() {
  if (!isSecureContext) return t("camera.insecure", { address: location.host });
  return navigator.mediaDevices?.getUserMedia ? null : t("camera.unsupported");
}

class Live {
  constructor(media, stream) {
    Object.assign(this, { media, labels: [], colours: null, answer: null, eased: new Map(), times: [], late: null, panels: [], worded: 0, said: 0, heard: "" });
    this.video = $("camera-video");
    this.canvas = $("camera-canvas");
    this.shot = document.createElement("canvas");
    this.video.srcObject = media;
    this.stream = stream(this);
    this.tick = this.tick.bind(this);
    this.fresh();
    this.loop = requestAnimationFrame(this.tick);
  }

  tick() {
    this.loop = requestAnimationFrame(this.tick);
    if (document.hidden || this.video.readyState < 2) return;
    this.send();
    this.draw();
    const now = performance.now();
    if (now - this.worded > WORDS_EVERY) {
      this.worded = now;
      this.describe(now);
    }
  }

  // A frame is sent once; browsers that do not tell of new frames are trusted to have one.
  fresh() {
    this.isNew = true;
    this.video.requestVideoFrameCallback?.(() => { if (this.video.srcObject === this.media) this.fresh(); });
  }

  send() {
    const now = performance.now();
    if (this.busy || !this.isNew || now - (this.sentAt ?? 0) < LEAST_GAP || !this.stream.free) return;
    this.isNew = !this.video.requestVideoFrameCallback;
    this.sentAt = now;
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, WIDTH / videoWidth);
    this.shot.width = Math.round(videoWidth * scale);
    this.shot.height = Math.round(videoHeight * scale);
    this.shot.getContext("2d").drawImage(this.video, 0, 0, this.shot.width, this.shot.height);
    this.busy = true;
    this.shot.toBlob((frame) => {
      this.busy = false;
      if (live === this && frame && this.stream.free) this.stream.send(frame);
    }, "image/jpeg", 0.85);
  }

  take(answer, late) {
    const now = performance.now();
    this.answer = answer;
    this.times = [...this.times.filter((one) => now - one < 3000), now];
    if (late !== null) this.late = this.late === null ? late : 0.8 * this.late + 0.2 * late;
  }

  // Boxes glide to where a face was last seen, so that they do not jump from answer to answer.
  glide(face, i) {
    const key = face.track ?? `n${i}`;
    const held = this.eased.get(key);
    const at = held && !reduced() ? held.map((one, k) => one + 0.35 * (face.box[k] - one)) : face.box;
    return [key, at];
  }

  draw() {
    const { canvas, video, answer } = this;
    const scale = devicePixelRatio || 1;
    const width = Math.round(video.clientWidth * scale), height = Math.round(video.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!answer) return;
    const mirror = $("camera-mirror").checked;
    const paints = colours(this.labels, this.colours);
    const fresh = new Map();
    answer.faces.forEach((face, i) => {
      const [key, [x1, y1, x2, y2]] = this.glide(face, i);
      fresh.set(key, [x1, y1, x2, y2]);
      const sx = width / answer.width, sy = height / answer.height;
      const left = mirror ? width - x2 * sx : x1 * sx;
      this.frame(pen, left, y1 * sy, (x2 - x1) * sx, (y2 - y1) * sy, face, face.undecided ? GREY : paints[face.top] ?? GREY, scale);
    });
    this.eased = fresh;
  }

  frame(pen, x, y, w, h, face, colour, scale) {
    pen.lineJoin = "round";
    for (const [style, thick] of [["rgb(0 0 0 / 55%)", 5], ["#ffffff", 3.6], [colour, 2.4]]) {
      pen.strokeStyle = style;
      pen.lineWidth = thick * scale;
      pen.strokeRect(x, y, w, h);
    }
    const text = headline(face);
    pen.font = `600 ${14 * scale}px ${getComputedStyle(document.body).fontFamily}`;
    const wide = pen.measureText(text).width + 14 * scale, tall = 24 * scale;
    const left = Math.max(0, Math.min(x, this.canvas.width - wide));
    const top = y - tall - 3 * scale > 0 ? y - tall - 3 * scale : y + 4 * scale;
    pen.fillStyle = colour;
    pen.fillRect(left, top, wide, tall);
    pen.fillStyle = ink(colour);
    pen.fillText(text, left + 7 * scale, top + 17 * scale);
  }

  panel(i) {
    if (!this.panels[i]) {
      const said = el("b");
      const bars = new Bars(this.labels, { caption: t("bars.of", { n: i + 1 }), given: this.colours });
      const even = el("span", { class: "even" });
      this.panels[i] = { said, bars, even, node: el("div", { class: "at" }, el("p", { class: "who" }, said, " ", even), bars.node) };
    }
    return this.panels[i];
  }

  // Words change a few times a second at most: they are to be read.
  describe(now) {
    const { answer } = this;
    const shown = (answer?.faces ?? []).slice(0, MOST_PANELS);
    const nodes = shown.map((face, i) => {
      const { said, bars, even, node } = this.panel(i);
      const best = ranked(face)[0];
      const text = best ? headline(face) : because(face.reason) || headline(face);
      if (said.textContent !== text) said.textContent = text;
      even.textContent = face.undecided ? doubt(this.labels) : "";
      bars.show(face.scores, best?.[0]);
      return paint(node, colours(this.labels, this.colours)[face.top]);
    });
    const place = $("camera-faces");
    if (!nodes.length) nodes.push(this.nobody ??= el("p", { class: "soft" }));
    if (this.nobody) this.nobody.textContent = answer ? because(answer.reasons) || t("reason.no_face") : t("camera.waiting");
    if (place.children.length !== nodes.length || nodes.some((one, i) => place.children[i] !== one)) place.replaceChildren(...nodes);
    this.figures(now);
    this.speak(now, shown);
  }

  figures(now) {
    const recent = this.times.filter((one) => now - one < 3000);
    const rate = recent.length > 1 ? (recent.length - 1) * 1000 / Math.max(1, now - recent[0]) : 0;
    const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
    put(this.rate ??= $("camera-rate"), rate ? number(rate, 1) : "–");
    put(this.lag ??= $("camera-lag"), this.late === null ? "–" : milliseconds(Math.round(this.late)));
  }

  speak(now, faces) {
    if (now - this.said < SAID_EVERY || !this.answer) return;
    const text = faces.length ? [counted("faces", this.answer.faces.length), ...faces.slice(0, 2).map(headline)].join(", ") : t("reason.no_face");
    if (text === this.heard) return;
    Object.assign(this, { heard: text, said: now });
    say(text);
  }

  end() {
    cancelAnimationFrame(this.loop);
    this.stream.close();
    this.media.getTracks().forEach((track) => track.stop());
    this.video.srcObject = null;
  }
}

function state(key, values) {
  const text = t(key, values);
  if ($("camera-state").textContent !== text) $("camera-state").textContent = text;
  $("camera-notice").classList.toggle("paused", key !== "camera.analysing");
}

function shape() {
  const on = live !== null;
  $("camera-start").hidden = on;
  $("camera-stop").hidden = !on;
  $("camera-notice").hidden = !on;
  $("camera-stage").hidden = !on;
}

async function devices(chosen) {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  const select = $("camera-which");
  const held = chosen ?? select.value;
  select.replaceChildren(...found.map((one, i) => el("option", { value: one.deviceId }, one.label || t("camera.n", { n: i + 1 }))));
  if (found.some((one) => one.deviceId === held)) select.value = held;
  select.closest("label").hidden = found.length < 2;
}

const WHY = { NotAllowedError: "camera.denied", NotFoundError: "camera.none", NotReadableError: "camera.used", OverconstrainedError: "camera.none" };

function listen(one) {
  return new Stream({
    ready: (message) => {
      Object.assign(one, { labels: message.labels, colours: message.colours, panels: [] });
      state(document.hidden ? "camera.paused" : "camera.analysing");
    },
    faces: (answer, late) => one.take(answer, late),
    lost: (seconds) => state("camera.lost", { n: seconds }),
    over: (problem) => { stop(); note($("camera-error"), friendly(problem)); },
  });
}

export async function start() {
  stop();
  note($("camera-error"), null);
  const device = $("camera-which").value;
  let media;
  $("camera-start").disabled = true;
  try {
    media = await navigator.mediaDevices.getUserMedia({
      audio: false, video: { width: { ideal: 1280 }, height: { ideal: 720 }, ...(device ? { deviceId: { exact: device } } : { facingMode: "user" }) },
    });
  } catch (error) {
    note($("camera-error"), t(WHY[error.name] ?? "camera.failed"));
    return;
  } finally {
    $("camera-start").disabled = false;
  }
  live = new Live(media, listen);
  state("camera.connecting");
  shape();
  media.getVideoTracks()[0].addEventListener("ended", stop);
  await $("camera-video").play().catch(() => {});
  await devices(media.getVideoTracks()[0].getSettings().deviceId);
  $("camera-stop").focus();
}

export function stop() {
  if (!live) return;
  const focused = document.activeElement === $("camera-stop");
  live.end();
  live = null;
  shape();
  $("camera-faces").replaceChildren();
  if (focused) $("camera-start").focus();
  say(t("camera.stopped"));
}

/** The view is shown: say whether a camera can be used at all. */
export async function show() {
  const why = hindrance();
  note($("camera-why"), why);
  $("camera-bar").hidden = why !== null;
  $("camera-which").closest("label").hidden = true;
  if (!why) await devices();
}

export function begin() {
  $("camera-start").addEventListener("click", start);
  $("camera-stop").addEventListener("click", stop);
  $("camera-which").addEventListener("change", () => { if (live) start(); });
  const mirror = () => $("camera-video").classList.toggle("mirrored", $("camera-mirror").checked);
  $("camera-mirror").addEventListener("change", mirror);
  mirror();
  document.addEventListener("visibilitychange", () => {
    if (!live) return;
    live.times = [];
    state(document.hidden ? "camera.paused" : live.stream.ready ? "camera.analysing" : "camera.connecting");
  });
  document.addEventListener("language", () => {
    figures();
    if (live) { live.panels = []; state(live.stream.ready ? "camera.analysing" : "camera.connecting"); }
  });
  figures();
  addEventListener("pagehide", stop);
}

function figures() {
  const line = (key, id) => el("div", {}, el("dt", {}, t(key)), el("dd", { id }, "–"));
  $("camera-figures").replaceChildren(line("camera.rate", "camera-rate"), line("camera.lag", "camera-lag"));
  if (live) Object.assign(live, { rate: null, lag: null });
}
