"use strict"; (() => {
const $ = (id) => document.getElementById(id);
const D = JSON.parse($("timeline").textContent);
const TICKS = 10000, K = D.labels.length, READ = 1 << 15, LOW = 256, FEW = 60;
const length = Math.max(1, D.film.length), half = (D.step * TICKS) / 2;
const paint = D.colours.map((c) => `rgb(${c.join(" ")})`);

// The points of all tracks, one behind the other; the order is that of Curves.packed.
function bytes(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); }
const raw = bytes(D.curves.data).buffer, P = D.curves.points;
const start = new Uint32Array(raw, 0, P), span = new Uint32Array(raw, 4 * P, P), flags = new Uint16Array(raw, 8 * P, P);
const box = new Uint16Array(raw, 10 * P, 4 * P), mean = new Uint8Array(raw, 18 * P, K * P);
const merged = D.curves.merged > 1;
const low = merged ? new Uint8Array(raw, 18 * P + K * P, K * P) : mean;
const high = merged ? new Uint8Array(raw, 18 * P + 2 * K * P, K * P) : mean;
D.curves.data = "";
const tracks = D.tracks, byId = new Map(tracks.map((t) => [t.id, t]));
const marks = new Map();
for (const m of D.spans) { if (!marks.has(m[0])) marks.set(m[0], []); marks.get(m[0]).push(m); }

// Where we are: what the lanes show (ticks), the moment that is chosen, and on which track.
let from = 0, to = length, at = 0, track = null, everything = false, film = null, playing = false;

// Ticks count from the first frame; what is shown is the container's time, as everywhere else.
const origin = Math.round(D.film.origin * TICKS);
function clock(ticks, digits = 0) {
  const unit = 10 ** digits, signed = Math.round((ticks + origin) / TICKS * unit), all = Math.abs(signed), s = Math.floor(all / unit);
  const two = (n) => String(n).padStart(2, "0");
  const rest = digits ? "." + String(all % unit).padStart(digits, "0") : "";
  return `${signed < 0 ? "-" : ""}${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}${rest}`;
}
function element(name, words = "", properties = {}) {
  const e = document.createElement(name);
  e.textContent = words;
  return Object.assign(e, properties);
}
const inks = new Map();
function colour(name) {
  if (!inks.has(name)) inks.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return inks.get(name);
}
function why(flag) {
  return Object.entries(D.reasons).filter(([bit]) => flag & bit).map(([, words]) => words).join(", ") || "no reason noted";
}
// The last point of a track that begins at or before a time.
function point(t, ticks) {
  let a = t.first, b = t.first + t.count;
  while (b - a > 1) { const m = (a + b) >> 1; if (start[m] <= ticks) a = m; else b = m; }
  return a;
}
// Where the pointer means: a face that is a few pixels away counts as pointed at.
function meant(li, event) {
  const r = li.plot.getBoundingClientRect(), t = li.track, near = 7 / r.width * (to - from);
  const ticks = from + (event.clientX - r.left) / r.width * (to - from), p = point(t, ticks), q = Math.min(p + 1, t.first + t.count - 1);
  if (within(p, ticks)) return ticks;
  const before = ticks - (start[p] + span[p] - 1), after = Math.abs(start[ticks < start[p] ? p : q] - ticks);
  if (before >= 0 && before <= near && before <= after) return start[p] + span[p] - 1;
  return after <= near ? start[ticks < start[p] ? p : q] : ticks;
}
function within(p, ticks) { return start[p] <= ticks && ticks < start[p] + span[p]; }

// Drawing

const hatch = (() => {
  const c = element("canvas", "", { width: 8, height: 8 }), g = c.getContext("2d");
  g.fillStyle = "rgb(132 132 132)"; g.fillRect(0, 0, 8, 8);
  g.strokeStyle = "rgb(186 186 186)"; g.lineWidth = 2;
  for (const x of [-8, 0, 8]) { g.beginPath(); g.moveTo(x - 1, 9); g.lineTo(x + 9, -1); g.stroke(); }
  return c;
})();
function canvas(c) {
  const scale = window.devicePixelRatio || 1, w = Math.round(c.clientWidth * scale), h = Math.round(c.clientHeight * scale);
  if (c.width !== w || c.height !== h) { c.width = w; c.height = h; }
  const g = c.getContext("2d");
  g.setTransform(1, 0, 0, 1, 0, 0); g.clearRect(0, 0, w, h);
  return [g, w, h, scale];
}
function stack(g, x, w, top, height, scores, first) {
  let y = top + height, sum = 0;
  for (let k = 0; k < K; k++) sum += scores[first + k];
  if (!sum) return;
  for (let k = 0; k < K; k++) {
    const part = scores[first + k] / sum * height;
    if (part > 0.2) { g.fillStyle = paint[k]; g.fillRect(x, y - part, w, part + 0.5); }
    y -= part;
  }
}
function column(g, x, w, top, height, p, scores, first) {
  if (!(flags[p] & READ)) { g.fillStyle = g.hatch; g.fillRect(x, top, w, height); return; }
  if (flags[p] & LOW) g.globalAlpha = 0.4;
  stack(g, x, w, top, height, scores, first);
  g.globalAlpha = 1;
}
function lane(t, c) {
  const [g, w, h, scale] = canvas(c), x = (ticks) => (ticks - from) / (to - from) * w;
  g.hatch = g.createPattern(hatch, "repeat");
  g.fillStyle = colour("--card"); g.fillRect(0, 0, w, h);
  g.fillStyle = colour("--soft"); g.globalAlpha = 0.45;
  const cuts = D.shots.filter((s) => s > from && s < to);
  // So many that they would be a grey ground say nothing.
  if (cuts.length < w / (12 * scale)) for (const s of cuts) g.fillRect(Math.round(x(s)), 0, scale, h);
  g.globalAlpha = 1;
  const top = 7 * scale, height = h - top, sums = new Float64Array(K);
  let p = point(t, from);
  const end = t.first + t.count;
  while (p < end && start[p] < to) {
    // Edges on whole pixels: no seams between points.
    const a = Math.max(0, Math.round(x(start[p]))), b = Math.min(w, Math.round(x(start[p] + span[p])));
    if (b < 0) { p++; continue; }
    if (b - a >= 1) { column(g, a, b - a, top, height, p, mean, p * K); p++; continue; }
    // Narrower than a pixel: one column shows the mean of all points that begin in it.
    const pixel = a;
    let read = 0, other = 0;
    sums.fill(0);
    do {
      if (flags[p] & READ) { read += span[p]; for (let k = 0; k < K; k++) sums[k] += mean[p * K + k] * span[p]; } else other += span[p];
    } while (++p < end && start[p] < to && Math.round(x(start[p] + span[p])) <= pixel);
    if (read >= other) stack(g, pixel, scale, top, height, sums, 0); else { g.fillStyle = g.hatch; g.fillRect(pixel, top, scale, height); }
  }
  g.fillStyle = colour("--ink");
  for (const m of marks.get(t.id) || []) {
    const a = x(m[1]), b = Math.max(a + 2 * scale, x(m[2]));
    if (b > 0 && a < w) { g.fillRect(a, 0, b - a, 4 * scale); }
  }
  if (t === track) { g.fillStyle = colour("--accent"); g.fillRect(Math.round(x(at)) - scale, 0, 2 * scale, h); }
}
const over = { faces: D.overview.faces, read: D.overview.read, scores: bytes(D.overview.data) };
const most = Math.max(1, ...over.faces);
function overview() {
  const [g, w, h, scale] = canvas($("overview")), bins = D.overview.bins;
  g.fillStyle = colour("--card"); g.fillRect(0, 0, w, h);
  for (let i = 0; i < bins; i++) {
    const x = i / bins * w, tall = over.faces[i] / most * h, read = over.read[i] / most * h;
    if (tall > 0) { g.fillStyle = "rgb(150 150 150)"; g.fillRect(x, h - tall, w / bins + 1, tall); }
    if (read > 0) stack(g, x, w / bins + 1, h - read, read, over.scores, i * K);
  }
  const a = from / length * w, b = Math.max(a + 3 * scale, to / length * w);
  g.fillStyle = colour("--paper"); g.globalAlpha = 0.72; g.fillRect(0, 0, a, h); g.fillRect(b, 0, w - b, h); g.globalAlpha = 1;
  g.strokeStyle = colour("--accent"); g.lineWidth = 2 * scale; g.strokeRect(a + scale, scale, Math.max(scale, b - a - 2 * scale), h - 2 * scale);
}
const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 86400];
function axis() {
  const [g, w, h, scale] = canvas($("axis")), seconds = (to - from) / TICKS;
  const step = STEPS.find((s) => s / seconds * w > 76 * scale) || 86400, digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  g.fillStyle = colour("--soft"); g.font = `${11 * scale}px system-ui, sans-serif`; g.textBaseline = "middle";
  for (let s = Math.ceil((from + origin) / TICKS / step - 1e-9) * step; s * TICKS - origin <= to; s += step) {
    const ticks = s * TICKS - origin, x = (ticks - from) / (to - from) * w, words = clock(ticks, digits), wide = g.measureText(words).width;
    g.fillRect(Math.round(x), 0, scale, 5 * scale);
    g.fillText(words, Math.min(Math.max(0, x - wide / 2), w - wide), h * 0.62);
  }
}

// Lanes: made when they come into sight, only those that lie in the view, the longest where there are many.

const lis = new Map(), live = new Set();
const seen = new IntersectionObserver((entries) => {
  for (const e of entries) {
    const li = e.target;
    if (e.isIntersecting) { if (!live.has(li)) { live.add(li); li.plot.append(li.canvas = element("canvas")); lane(li.track, li.canvas); } }
    else if (live.delete(li)) li.canvas.remove();
  }
}, { rootMargin: "200px" });
const pictured = tracks.some((t) => t.face);
function seconds(ticks) { return ((ticks + origin) / TICKS).toFixed(2); }
function long(t) { const s = (t.end - t.start) / TICKS; return s.toFixed(s < 1 ? 2 : 1); }
function make(t) {
  const li = element("li"), head = element("button", "", { className: pictured ? "head" : "head bare", type: "button" }), words = element("span");
  li.className = "lane";
  const face = t.face ? element("img", "", { src: "data:image/jpeg;base64," + t.face, alt: "", loading: "lazy", width: 56, height: 56 })
    : element("span", "", { className: "blank" });
  words.append(element("b", `track ${t.id}${t.top ? " · " + t.top : ""}`), element("small", `${clock(t.start, 1)} – ${clock(t.end, 1)}`),
    element("small", `${long(t)} s · shot ${t.shot}`));
  head.append(...(pictured ? [face] : []), words);
  head.setAttribute("aria-label", `Zoom to track ${t.id}, ${t.top || "not read"}, ${clock(t.start, 1)} to ${clock(t.end, 1)}`);
  head.onclick = () => fit(t);
  const plot = element("div", "", { className: "plot", tabIndex: -1 });
  const said = { role: "slider", "aria-label": `Track ${t.id}: time`, "aria-valuemin": seconds(t.start), "aria-valuemax": seconds(t.end), "aria-valuenow": seconds(t.start) };
  for (const [name, value] of Object.entries(said)) plot.setAttribute(name, value);
  plot.onfocus = () => roving(li);
  li.append(head, plot);
  Object.assign(li, { track: t, plot });
  listen(plot, li);
  return li;
}
let listed = [], tabbed = null;
function roving(li) { if (tabbed) tabbed.plot.tabIndex = -1; tabbed = li; li.plot.tabIndex = 0; }
function list() {
  const here = tracks.filter((t) => t.start < to && t.end > from);
  let shown = here;
  if (!everything && here.length > FEW) {
    const longest = [...here].sort((a, b) => (b.end - b.start) - (a.end - a.start)).slice(0, FEW);
    if (track && here.includes(track) && !longest.includes(track)) longest.push(track);
    const kept = new Set(longest);
    shown = here.filter((t) => kept.has(t));
  }
  const zoomed = from > 0 || to < length;
  const least = shown.length ? Math.min(...shown.filter((t) => t !== track).map((t) => t.end - t.start), Infinity) / TICKS : 0;
  const place = zoomed ? ` in view, ${tracks.length.toLocaleString("en")} in all` : "";
  $("shown").textContent = shown.length < here.length
    ? `The ${shown.length} longest of ${here.length.toLocaleString("en")} tracks${place} (${least.toFixed(1)} s or longer); zoom in to see the others.`
    : `${here.length.toLocaleString("en")} ${here.length === 1 ? "track" : "tracks"}${place}`;
  $("all").hidden = !everything && shown.length === here.length;
  $("all").textContent = everything ? `Show the ${FEW} longest only` : `Show all ${here.length.toLocaleString("en")}`;
  if (shown.length === listed.length && shown.every((t, i) => t === listed[i])) return;
  listed = shown;
  seen.disconnect();
  for (const li of live) li.canvas.remove();
  live.clear();
  const next = shown.map((t) => { if (!lis.has(t.id)) lis.set(t.id, make(t)); return lis.get(t.id); });
  const focused = document.activeElement;
  $("lanes").replaceChildren(...next);
  if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  for (const li of next) seen.observe(li);
  if (next.length && (!tabbed || !tabbed.isConnected)) roving(next[0]);
}
let frame = 0, later = 0;
function draw() {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    for (const li of live) lane(li.track, li.canvas);
    overview(); axis();
    $("view").textContent = `${clock(from, to - from < 60 * TICKS ? 1 : 0)} – ${clock(to, to - from < 60 * TICKS ? 1 : 0)}`;
  });
}
function view(a, b, quick) {
  const least = Math.min(length, Math.max(4 * half, 0.2 * TICKS)), size = Math.min(length, Math.max(least, b - a));
  const middle = (a + b) / 2;
  from = Math.min(Math.max(0, middle - size / 2), length - size);
  to = from + size;
  draw();
  clearTimeout(later);
  if (quick) list(); else later = setTimeout(list, 250);
}
function zoom(factor, around = (from + to) / 2) { view(around - (around - from) * factor, around + (to - around) * factor); }
function pan(share) { const d = (to - from) * share; view(from + d, to + d); }
function fit(t) { const room = (t.end - t.start) * 0.08 + half; view(t.start - room, t.end + room, true); }

// The moment

function nearest(t, ticks) {
  let best = null, least = Infinity;
  for (const s of D.stills) {
    const with_ = !t || s.faces.some((f) => f.track === t.id);
    const away = Math.abs(s.time - ticks) + (with_ ? 0 : 1e12);
    if (away < least) { least = away; best = s; }
  }
  return best;
}
function boxes(list) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const form = { viewBox: `0 0 ${D.film.width} ${D.film.height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  for (const [name, value] of Object.entries(form)) svg.setAttribute(name, value);
  const thick = D.film.width / 130;
  for (const [id, b, top] of list) {
    for (const [stroke, wide] of [["#000", 2 * thick], [top < 0 ? "#bbb" : paint[top], thick]]) {
      const r = document.createElementNS(svg.namespaceURI, "rect");
      const place = { x: b[0] * D.film.width, y: b[1] * D.film.height, width: (b[2] - b[0]) * D.film.width, height: (b[3] - b[1]) * D.film.height };
      for (const [n, v] of Object.entries({ ...place, fill: "none", stroke, "stroke-width": track && id === track.id ? wide * 1.4 : wide * 0.7 })) r.setAttribute(n, v);
      svg.append(r);
    }
  }
  return svg;
}
function best(scores, first = 0) { let k = 0; for (let i = 1; i < K; i++) if (scores[first + i] > scores[first + k]) k = i; return k; }
function around(ticks) {
  const out = [];
  for (const t of tracks) {
    if (t.start > ticks || t.end <= ticks) continue;
    const p = point(t, ticks);
    if (within(p, ticks)) out.push([t.id, [0, 1, 2, 3].map((i) => box[4 * p + i] / 65535), flags[p] & READ ? best(mean, p * K) : -1]);
  }
  return out;
}
function score(p, k) {
  const cell = element("td", (mean[p * K + k] / 255).toFixed(2));
  if (merged) cell.append(element("small", `${(low[p * K + k] / 255).toFixed(2)}–${(high[p * K + k] / 255).toFixed(2)}`));
  return cell;
}
function rows(p) {
  const table = element("table"), body = element("tbody");
  for (let k = 0; k < K; k++) {
    const tr = element("tr"), meter = element("td", "", { className: "meter" }), bar = element("i");
    bar.style.cssText = `width:${mean[p * K + k] / 2.55}%;background:${paint[k]}`;
    meter.append(bar);
    tr.append(element("th", D.labels[k], { scope: "row" }), meter, score(p, k));
    body.append(tr);
  }
  table.append(body);
  return table;
}
function said(t, ticks, p) {
  if (!within(p, ticks)) return "not seen at this moment";
  if (!(flags[p] & READ)) return `not read: ${why(flags[p])}`;
  if (flags[p] & LOW) return "no label named: the best score is too low";
  return flags[p] & ~(READ | LOW) ? `partly not read: ${why(flags[p] & ~LOW)}` : "";
}
function still() {
  const s = nearest(track, at), holder = $("picture");
  holder.hidden = !s;
  if (!s) { $("source").textContent = D.notes[0] || "No picture of this moment."; return; }
  const away = (s.time - at) / TICKS, shown = track && s.faces.some((f) => f.track === track.id);
  const image = element("img", "", { src: "data:image/jpeg;base64," + s.data, alt: `Picture of ${clock(s.time, 2)}` });
  holder.replaceChildren(image, boxes(s.faces.map((f) => [f.track, f.box, f.scores && !(f.flags & LOW) ? best(f.scores) : -1])));
  const near = Math.abs(away) * TICKS <= half + 1;
  $("source").textContent = near ? "The picture of this moment."
    : `The nearest picture kept${shown ? " of this track" : ""}: ${clock(s.time, 2)}, ${Math.abs(away).toFixed(2)} s ${away > 0 ? "later" : "earlier"}.`;
}
function show(t, ticks, keep) {
  track = t; at = Math.min(Math.max(0, ticks), length);
  const p = point(t, at), aside = $("moment");
  aside.hidden = false;
  document.querySelector(".desk").classList.add("open");
  $("when").textContent = `${clock(at, 2)} · track ${t.id}`;
  const words = said(t, at, p), readable = within(p, at) && flags[p] & READ;
  $("scores").replaceChildren(...(words ? [element("p", words)] : []), ...(readable ? [rows(p)] : []));
  if (film) {
    if (!keep) { film.currentTime = zero() + at / TICKS + D.step / 4; }
    $("picture").hidden = false;
    if (film.parentNode !== $("picture")) $("picture").replaceChildren(film);
    for (const old of $("picture").querySelectorAll("svg")) old.remove();
    $("picture").append(boxes(around(at)));
    $("source").textContent = "From the film itself.";
  } else still();
  $("play").hidden = !film;
  // On a phone the moment covers the lower half.
  const plot = lis.has(t.id) && lis.get(t.id).plot;
  if (plot && plot.isConnected && !keep && aside.offsetTop + 40 < innerHeight && getComputedStyle(aside).position === "fixed"
    && plot.getBoundingClientRect().bottom > aside.getBoundingClientRect().top) plot.parentNode.scrollIntoView({ block: "start" });
  const li = lis.get(t.id);
  if (li) {
    li.plot.setAttribute("aria-valuenow", seconds(at));
    li.plot.setAttribute("aria-valuetext", `${clock(at, 2)}: ${words || `${D.labels[best(mean, p * K)]} ${(mean[p * K + best(mean, p * K)] / 255).toFixed(2)}`}`);
  }
  draw();
}
function step(by) {
  if (track) go(track, start[Math.min(track.first + track.count - 1, Math.max(track.first, point(track, at) + by))]);
}
function go(t, ticks) {
  show(t, ticks);
  if (at < from || at > to) { const size = to - from; view(at - size / 2, at + size / 2, true); }
}
let marked = -1;
function mark(by) {
  if (!D.spans.length) return;
  marked = marked < 0 && by < 0 ? D.spans.length - 1 : (marked + by + D.spans.length) % D.spans.length;
  const [id, a, b] = D.spans[marked], t = byId.get(id);
  if (!t) return;
  const room = Math.max(b - a, TICKS);
  track = t; view(a - room, b + room, true); show(t, a);
  const li = lis.get(id);
  if (li && li.isConnected) li.scrollIntoView({ block: "center" });
}

// Pointer, wheel and keys

function hover(li, event) {
  const ticks = meant(li, event), t = li.track, p = point(t, ticks), tip = $("tip");
  const words = said(t, ticks, p), line = element("div", `${clock(ticks, 2)} · track ${t.id}`);
  line.style.fontWeight = "600";
  const parts = [line];
  if (words) parts.push(element("div", words));
  if (within(p, ticks) && flags[p] & READ) {
    const table = element("table");
    for (let k = 0; k < K; k++) {
      const tr = element("tr"), name = element("td"), i = element("i", "", { className: "swatch" });
      i.style.background = paint[k];
      name.append(i, D.labels[k]);
      tr.append(name, score(p, k));
      table.append(tr);
    }
    parts.push(table);
  }
  tip.replaceChildren(...parts);
  tip.hidden = false;
  const w = tip.offsetWidth, h = tip.offsetHeight;
  tip.style.left = `${Math.max(4, event.clientX + 16 + w > innerWidth ? event.clientX - w - 16 : event.clientX + 16)}px`;
  tip.style.top = `${Math.min(Math.max(4, event.clientY + 16), innerHeight - h - 4)}px`;
}
function listen(area, li) {
  const held = new Map();
  let moved = false, began = null;
  const width = () => area.getBoundingClientRect().width, spanOf = () => (li ? to - from : length);
  area.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    held.set(e.pointerId, e.clientX);
    moved = false;
    began = { from, to, x: e.clientX, wide: held.size === 2 ? Math.abs([...held.values()][0] - [...held.values()][1]) : 0 };
    area.setPointerCapture(e.pointerId);
    if (!li) centre(e);
  });
  area.addEventListener("pointermove", (e) => {
    if (li && !held.size && e.pointerType !== "touch") hover(li, e);
    if (!held.has(e.pointerId)) return;
    held.set(e.pointerId, e.clientX);
    $("tip").hidden = true;
    if (held.size === 2 && began.wide > 8) {
      const wide = Math.max(8, Math.abs([...held.values()][0] - [...held.values()][1])), size = (began.to - began.from) * began.wide / wide, middle = (began.from + began.to) / 2;
      moved = true; view(middle - size / 2, middle + size / 2);
    } else if (!li) centre(e);
    else if (Math.abs(e.clientX - began.x) > 4 || moved) {
      moved = true;
      const d = (began.x - e.clientX) / width() * spanOf();
      view(began.from + d, began.to + d);
    }
  });
  const up = (e) => {
    const was = held.delete(e.pointerId);
    if (was && e.type === "pointerup" && li && !moved) {
      const ticks = meant(li, e);
      area.focus({ preventScroll: true });
      show(li.track, ticks);
    }
  };
  for (const kind of ["pointerup", "pointercancel"]) area.addEventListener(kind, up);
  area.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  area.addEventListener("wheel", (e) => {
    const sideways = e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY);
    if (li && !e.ctrlKey && !e.metaKey && !sideways) return;
    e.preventDefault();
    $("tip").hidden = true;
    const r = area.getBoundingClientRect(), share = (e.clientX - r.left) / r.width;
    if (sideways) pan((e.deltaX || e.deltaY) / 800);
    else zoom(1.0015 ** Math.max(-400, Math.min(400, e.deltaY * (e.deltaMode ? 30 : 1))), li ? from + share * (to - from) : share * length);
  }, { passive: false });
}
function centre(e) {
  const r = $("overview").getBoundingClientRect(), middle = (e.clientX - r.left) / r.width * length, size = to - from;
  view(middle - size / 2, middle + size / 2);
}
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const plot = e.target.closest && e.target.closest(".plot"), li = plot && plot.parentNode, many = e.shiftKey ? 10 : 1;
  const current = li ? li.track : track;
  const along = (by) => { if (li && li.track !== track) show(li.track, Math.min(Math.max(from, li.track.start), li.track.end - 1)); else step(by * many); };
  const other = (by) => { const next = by > 0 ? li.nextElementSibling : li.previousElementSibling; if (next) { next.plot.focus(); next.scrollIntoView({ block: "nearest" }); } };
  const keys = {
    "+": () => zoom(0.5, track ? at : undefined), "=": () => zoom(0.5, track ? at : undefined), "-": () => zoom(2), 0: () => view(0, length, true),
    a: () => pan(-0.25), d: () => pan(0.25), n: () => mark(1), p: () => mark(-1), Escape: close,
    t: () => current && fit(current),
  };
  if (li) Object.assign(keys, {
    ArrowRight: () => along(1), ArrowLeft: () => along(-1), ArrowUp: () => other(-1), ArrowDown: () => other(1),
    Home: () => go(li.track, li.track.start), End: () => go(li.track, start[li.track.first + li.track.count - 1]),
    Enter: () => go(li.track, li.track === track ? at : li.track.start), " ": () => go(li.track, li.track === track ? at : li.track.start),
  });
  const act = keys[e.key] || keys[e.key.toLowerCase()];
  $("tip").hidden = true;
  if (act && (li || e.target === document.body || e.key === "Escape")) { e.preventDefault(); act(); }
});
function close() {
  if (film) film.pause();
  $("moment").hidden = true;
  document.querySelector(".desk").classList.remove("open");
  draw();
}

// The film itself, where it can be reached and the browser plays it

function open() {
  if (!D.film.src) return;
  const v = element("video", "", { muted: true, playsInline: true, preload: "auto", src: D.film.src });
  v.addEventListener("loadeddata", () => {
    if (!v.videoWidth) return;
    film = v;
    if (track && !$("moment").hidden) show(track, at);
  });
  v.addEventListener("error", () => { const had = film; film = null; if (had && track && !$("moment").hidden) { v.remove(); show(track, at); } });
  v.addEventListener("pause", () => { playing = false; $("play").textContent = "play"; });
  v.addEventListener("play", () => { playing = true; $("play").textContent = "pause"; requestAnimationFrame(follow); });
}
// Browsers keep the container's times; a clock that runs elsewhere (a broadcast) is begun at 0 by those that play it.
function zero() { return D.film.origin < film.duration ? D.film.origin : 0; }
function follow() {
  if (!playing || !film) return;
  const now = (film.currentTime - zero()) * TICKS;
  if (now >= track.end) film.pause();
  show(track, Math.min(now, track.end - 1), true);
  requestAnimationFrame(follow);
}

$("in").onclick = () => zoom(0.5, track && !$("moment").hidden ? at : undefined);
$("out").onclick = () => zoom(2);
for (const [name, by] of [["left", -0.5], ["right", 0.5]]) $(name).onclick = () => pan(by);
$("fit").onclick = () => view(0, length, true);
$("all").onclick = () => { everything = !everything; list(); draw(); };
$("close").onclick = close;
for (const [name, by] of [["back", -1], ["forth", 1]]) $(name).onclick = () => step(by);
$("play").onclick = () => { if (playing) film.pause(); else film.play(); };
if (D.spans.length) { $("before").onclick = () => mark(-1); $("next").onclick = () => mark(1); }
listen($("overview"), null);
addEventListener("resize", draw);
addEventListener("scroll", () => { $("tip").hidden = true; }, { passive: true });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { inks.clear(); draw(); });
new ResizeObserver(draw).observe($("lanes"));
open();
view(0, length, true);
})();
