// The link to the hub: it asks, hears, and comes back by itself.

const BACK_OFF_MS = [300, 700, 1500, 3000, 5000];
const PING_MS = 1000;
const SILENCE_MS = 8000;
const PROTOCOL = "orchestra.v1";

/** An answer of the hub that is no success. */
export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * Events: `open` (after WELCOME), `shut` (detail: in how many ms it is tried again), `signed-out`, `heard` (detail: what
 * the hub said without being asked), `pong` (detail: ms of a round trip).
 */
export class Link extends EventTarget {
  #socket = null;
  #open = new Map();
  #last = 0;
  #tries = 0;
  #timers = new Set();
  #heard = 0;
  #pinged = 0;
  #isNew = true;

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Begin; or begin anew, where it is waiting to try again. */
  async start() {
    this.#end();
    if (this.#isNew && (await isSignedOut())) return this.#tell("signed-out");
    this.#isNew = false;
    return this.#connect();
  }

  #connect() {
    const address = new URL(".", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = "credit=0";
    this.#socket = new WebSocket(address, PROTOCOL);
    this.#socket.onmessage = (event) => this.#hear(JSON.parse(event.data));
    this.#socket.onclose = () => this.#shut();
  }

  /** Ask; resolves with the result, rejects with a `Refusal`. */
  call(method, params = {}) {
    return this.say("call", { method, params }).then((told) => told.result);
  }

  /** Say something that is answered. */
  say(type, fields) {
    if (!this.isOpen) return Promise.reject(new Refusal("offline", "the hub is not there now; try again when it is back"));
    const id = ++this.#last;
    this.#socket.send(JSON.stringify({ ...fields, type, id }));
    return new Promise((resolve, reject) => this.#open.set(id, { resolve, reject }));
  }

  #hear(told) {
    this.#heard = performance.now();
    if (told.type === "welcome") return this.#welcome(told);
    if (told.type === "pong") return this.#tell("pong", performance.now() - this.#pinged);
    const asked = this.#open.get(told.id);
    if (!asked) return this.#tell("heard", told);
    this.#open.delete(told.id);
    return told.type === "error" ? asked.reject(new Refusal(told.code, told.message)) : asked.resolve(told);
  }

  #welcome(told) {
    this.#tries = 0;
    this.#every(PING_MS, () => {
      if (performance.now() - this.#heard > SILENCE_MS) return this.#shut();
      this.#pinged = performance.now();
      return this.#socket.send('{"type":"ping"}');
    });
    this.#tell("open", told);
  }

  async #shut() {
    this.#end();
    const wait = BACK_OFF_MS[Math.min(this.#tries++, BACK_OFF_MS.length - 1)] * (0.7 + 0.6 * Math.random());
    this.#tell("shut", wait);
    const timer = setTimeout(() => this.#connect(), wait);
    this.#timers.add(() => clearTimeout(timer));
    if (await isSignedOut()) {
      this.#end();
      this.#tell("signed-out");
    }
  }

  /** Whatever was asked will not be answered any more. */
  #end() {
    for (const stop of this.#timers) stop();
    this.#timers.clear();
    if (this.#socket) {
      this.#socket.onclose = this.#socket.onmessage = null;
      this.#socket.close();
      this.#socket = null;
    }
    for (const asked of this.#open.values()) asked.reject(new Refusal("connection_lost", "the hub went away before it answered"));
    this.#open.clear();
  }

  #every(ms, act) {
    const timer = setInterval(act, ms);
    this.#timers.add(() => clearInterval(timer));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** A WebSocket does not say why it was refused; a plain request does. */
async function isSignedOut() {
  try {
    return (await fetch("whoami", { cache: "no-store" })).status === 401;
  } catch {
    return false;
  }
}
