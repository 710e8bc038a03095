// A lane for every track: its runs as a band of colours, the curves of its scores above; one slider moves the time.

import { el, icon } from "./dom.js";
import { colours, GREY } from "./palette.js";
import { clock, label, number, t } from "./text.js";

const HEIGHT = 64;
const BAND = 14;
const MOST = 400;

/** The place of a time in a rising list: the last one that is not later, -1 before all. */
function before(times, seconds) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function nearest(times, seconds) {
  const at = before(times, seconds);
  return at + 1 < times.length && (at < 0 || times[at + 1] - seconds < seconds - times[at]) ? at + 1 : at;
}

/** Seconds from which on two points of a track do not belong together: three usual steps. */
function gap({ time }) {
  const steps = time.slice(1).map((one, i) => one - time[i]).sort((a, b) => a - b);
  return 3 * (steps[steps.length >> 1] ?? 0);
}

export class Timeline {
  constructor(data, { onTime }) {
    Object.assign(this, { data, onTime, time: 0, from: 0, to: Math.max(data.seconds, 0.1) });
    this.paints = colours(data.labels, data.colours);
    this.lanes = data.tracks.map((track) => this.lane(track));
    this.axis = el("canvas", { class: "axis", "aria-hidden": "true" });
    this.head = el("div", { class: "playhead", "aria-hidden": "true" });
    this.slider = el("div", {
      class: "slider", role: "slider", tabindex: 0, "aria-label": t("timeline.time"), "aria-orientation": "horizontal",
      "aria-valuemin": 0, "aria-valuemax": number(data.seconds, 1).replace(",", "."), onkeydown: (e) => this.key(e),
    }, this.axis);
    this.rows = el("div", { class: "lanes" }, this.lanes.map((lane) => lane.node), this.head);
    this.node = el("section", { class: "timeline", "aria-label": t("timeline") },
      el("div", { class: "bar" }, el("h2", {}, t("timeline")), this.buttons()), this.legend(),
      el("div", { class: "rule" }, el("span", { class: "unseen" }, ""), this.slider), this.rows,
      el("p", { class: "soft keys" }, t("timeline.keys")));
    this.listen(this.slider);
    new ResizeObserver(() => this.draw()).observe(this.rows);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    document.addEventListener("theme", () => this.draw());
  }

  get span() { return this.to - this.from; }

  /** Where there is something to see first. */
  first() { return this.data.tracks.length ? Math.min(...this.data.tracks.map((one) => one.first)) : 0; }

  buttons() {
    const button = (key, sign, act) => el("button", { type: "button", class: "small", "aria-label": t(key), title: t(key), onclick: act }, sign);
    return el("div", { class: "zoom" },
      button("timeline.out", "−", () => this.zoom(2)), button("timeline.in", "+", () => this.zoom(0.5)), button("timeline.all", t("timeline.fit"), () => this.see(0, this.data.seconds)));
  }

  legend() {
    return el("ul", { class: "legend", "aria-label": t("timeline.legend") }, this.data.labels.map((name) => {
      const swatch = el("i");
      swatch.style.setProperty("--colour", this.paints[name]);
      return el("li", {}, swatch, label(name));
    }));
  }

  lane(track) {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const plot = el("div", { class: "plot" }, canvas);
    const face = track.face ? el("img", { src: track.face, alt: "", width: 44, height: 44 }) : el("span", { class: "blank" }, icon("picture"));
    const seen = t("track.seen", { from: clock(track.first), to: clock(track.last) });
    const head = el("button", { type: "button", class: "who", title: t("track.go"), onclick: () => this.go(track.first, { seek: true }) }, face,
      el("span", {}, el("b", {}, t("track", { n: track.id })), el("small", {}, track.label ? label(track.label) : t("face.unread")), el("small", {}, seen)));
    this.listen(plot);
    return { track, canvas, plot, node: el("div", { class: "lane" }, head, plot) };
  }

  // A press moves the time, so does a drag; a sideways wheel or pinch moves or zooms what is seen.
  listen(node) {
    const at = (e) => {
      const { left, width } = node.getBoundingClientRect();
      return this.from + this.span * Math.min(1, Math.max(0, (e.clientX - left) / width));
    };
    node.addEventListener("pointerdown", (e) => {
      if (e.button) return;
      node.setPointerCapture(e.pointerId);
      this.go(at(e), { seek: true });
    });
    node.addEventListener("pointermove", (e) => { if (node.hasPointerCapture(e.pointerId)) this.go(at(e), { seek: true }); });
    node.addEventListener("wheel", (e) => {
      if (e.ctrlKey || e.metaKey) this.zoom(e.deltaY > 0 ? 1.25 : 0.8, at(e));
      else if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) this.see(this.from + this.span * e.deltaX / 800, this.to + this.span * e.deltaX / 800);
      else return;
      e.preventDefault();
    }, { passive: false });
  }

  key(e) {
    const small = e.shiftKey ? 0.04 : Math.max(0.1, this.span / 100);
    const moves = {
      ArrowRight: small, ArrowUp: small, ArrowLeft: -small, ArrowDown: -small, PageUp: this.span / 10, PageDown: -this.span / 10,
      Home: -Infinity, End: Infinity,
    };
    if (e.key in moves) this.go(Math.min(this.data.seconds, Math.max(0, this.time + moves[e.key])), { seek: true });
    else if (e.key === "+" || e.key === "=") this.zoom(0.5);
    else if (e.key === "-") this.zoom(2);
    else if (e.key === "0") this.see(0, this.data.seconds);
    else return;
    e.preventDefault();
  }

  zoom(by, about = this.time) {
    const centre = Math.min(this.to, Math.max(this.from, about));
    this.see(centre - (centre - this.from) * by, centre + (this.to - centre) * by);
  }

  see(from, to) {
    const whole = Math.max(this.data.seconds, 0.1);
    const span = Math.min(whole, Math.max(whole / MOST, 0.5, to - from));
    this.from = Math.min(Math.max(0, from), whole - span);
    this.to = this.from + span;
    this.draw();
  }

  go(seconds, { seek }) {
    this.time = Math.min(this.data.seconds, Math.max(0, seconds));
    if (this.time < this.from || this.time > this.to) this.see(this.time - this.span / 2, this.time + this.span / 2);
    const there = this.present(this.time).map(({ track, run }) => `${t("track", { n: track.id })} ${label(run.label)}`);
    this.slider.setAttribute("aria-valuenow", this.time.toFixed(2));
    this.slider.setAttribute("aria-valuetext", [clock(this.time), ...(there.length ? there.slice(0, 3) : [t("timeline.nobody")])].join(", "));
    this.mark();
    this.onTime(this.time, { seek });
  }

  /** The tracks that are read at a time, with their scores and their run; a track may have gaps. */
  present(seconds) {
    const found = [];
    for (const track of this.data.tracks) {
      const run = track.runs.find((one) => seconds >= one.start - 0.001 && seconds <= one.end + 0.001);
      if (run) found.push({ track, run, scores: track.scores[nearest(track.time, seconds)] });
    }
    return found;
  }

  mark() {
    const share = (this.time - this.from) / this.span;
    const plot = this.lanes[0]?.plot;
    if (!plot) return;
    const left = plot.offsetLeft + share * plot.offsetWidth;
    this.head.style.setProperty("transform", `translateX(${left}px)`);
    this.slider.style.setProperty("--at", `${100 * share}%`);
    this.head.hidden = share < 0 || share > 1;
  }

  draw() {
    const style = getComputedStyle(this.node);
    const tint = { line: style.getPropertyValue("--line"), soft: style.getPropertyValue("--soft"), ink: style.getPropertyValue("--ink-text") };
    for (const lane of this.lanes) this.drawLane(lane, tint);
    this.drawAxis(tint, style.fontFamily);
    this.mark();
  }

  drawLane({ track, canvas }, tint) {
    const [pen, width, x] = this.pen(canvas, HEIGHT);
    pen.fillStyle = tint.line;
    for (const cut of this.data.cuts) if (cut >= this.from && cut <= this.to) pen.fillRect(x(cut), 0, 1, HEIGHT);
    pen.globalAlpha = 0.4;
    pen.fillRect(0, HEIGHT - BAND, width, BAND);
    pen.globalAlpha = 1;
    for (const run of track.runs) {
      if (run.end < this.from || run.start > this.to) continue;
      pen.fillStyle = this.paints[run.label] ?? GREY;
      pen.fillRect(x(run.start), HEIGHT - BAND, Math.max(1.5, x(run.end) - x(run.start)), BAND);
    }
    this.curves(pen, track, x, tint);
  }

  curves(pen, track, x, tint) {
    const top = 3, tall = HEIGHT - BAND - 8;
    const first = Math.max(0, before(track.time, this.from)), last = Math.min(track.time.length, before(track.time, this.to) + 2);
    const most = gap(track);
    this.data.labels.forEach((name, k) => {
      const path = new Path2D();
      let held = -Infinity;
      for (let i = first; i < last; i += 1) {
        const value = track.scores[i]?.[k];
        if (typeof value !== "number") { held = -Infinity; continue; }
        const y = top + tall * (1 - value);
        if (track.time[i] - held > most) path.moveTo(x(track.time[i]), y);
        else path.lineTo(x(track.time[i]), y);
        held = track.time[i];
      }
      pen.lineJoin = "round";
      pen.strokeStyle = tint.soft;
      pen.globalAlpha = 0.35;
      pen.lineWidth = 2.6;
      pen.stroke(path);
      pen.globalAlpha = 1;
      pen.strokeStyle = this.paints[name];
      pen.lineWidth = 1.7;
      pen.stroke(path);
    });
  }

  drawAxis(tint, font) {
    const [pen, width, x] = this.pen(this.axis, 26);
    const wanted = this.span * 90 / Math.max(width, 1);
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((one) => one >= wanted) ?? 7200;
    pen.fillStyle = tint.soft;
    pen.font = `12px ${font}`;
    for (let i = Math.ceil(this.from / step); i * step <= this.to + 1e-9; i += 1) {
      const at = i * step;
      const text = clock(at, step < 1 ? 1 : 0);
      const wide = pen.measureText(text).width;
      pen.fillRect(x(at), 20, 1, 6);
      pen.fillText(text, Math.min(width - wide, Math.max(0, x(at) - wide / 2)), 14);
    }
  }

  pen(canvas, height) {
    const width = canvas.parentElement.clientWidth;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    return [pen, width, (seconds) => (seconds - this.from) / this.span * width];
  }
}
