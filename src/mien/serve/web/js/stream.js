// Frames of a camera to the service and faces back: at most two on their way, a broken connection is made again.

import { Problem, token } from "./api.js";

const IN_FLIGHT = 2;
const SILENCE = 8_000;
const AGAIN = new Set([1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000]);

export class Stream {
  /** `hear` gets ready(labels, colours), faces(answer, milliseconds on the way), lost(seconds until it is tried again), over(problem). */
  constructor(hear) {
    Object.assign(this, { hear, tries: 0, timer: null, socket: null, ended: false, asleep: false });
    this.open();
  }

  open() {
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    Object.assign(this, { socket, sent: new Map(), next: 0, ready: false, heard: performance.now() });
    socket.addEventListener("open", () => { if (token()) socket.send(JSON.stringify({ token: token() })); });
    socket.addEventListener("message", (e) => { if (socket === this.socket) this.take(JSON.parse(e.data)); });
    socket.addEventListener("close", (e) => { if (socket === this.socket) this.closed(e); });
  }

  take(message) {
    this.heard = performance.now();
    if (message.type === "ready") {
      Object.assign(this, { ready: true, tries: 0 });
      this.hear.ready(message);
    } else if (message.type === "faces") {
      const since = this.sent.get(message.frame);
      for (const frame of this.sent.keys()) if (frame <= message.frame) this.sent.delete(frame);
      this.hear.faces(message, since === undefined ? null : this.heard - since);
    } else if (message.type === "error") {
      this.refused = new Problem(0, message.error);
      this.sent.delete(message.frame);
    }
  }

  closed(event) {
    this.ready = false;
    if (this.ended) return;
    // A page that was hidden sends nothing; it connects anew with its next frame.
    this.asleep = event.reason === "idle";
    if (this.asleep) return;
    if (!AGAIN.has(event.code)) {
      this.ended = true;
      this.hear.over(this.refused ?? new Problem(event.code === 1008 ? 401 : 0, { code: event.reason }));
      return;
    }
    const seconds = Math.min(15, 2 ** this.tries);
    this.tries += 1;
    this.hear.lost(seconds);
    this.timer = setTimeout(() => this.open(), seconds * 1000);
  }

  /** Whether a frame may be sent now. */
  get free() {
    if (this.asleep) {
      this.asleep = false;
      this.open();
    }
    if (!this.ready || this.socket.readyState !== WebSocket.OPEN) return false;
    if (this.sent.size < IN_FLIGHT) return true;
    // An answer that never comes must not stop the camera for good.
    if (performance.now() - this.heard > SILENCE) this.socket.close(4000);
    return false;
  }

  send(frame) {
    this.sent.set(this.next, performance.now());
    this.next += 1;
    this.socket.send(frame);
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket.close(1000);
  }
}
