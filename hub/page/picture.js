// The picture of the hub: what was read when the link opened, and what the feed told since.

import { isHeld, isOver, STAGES, textOf, WAKES } from "./words.js";

const KEPT = 400; // tasks, and messages
const PULSES = 120; // seconds that are drawn
const CONFIRM_EVERY = 4; // of the feed's events
const ANEW_MS = 3000; // between two readings of everything
const TAIL = 400; // characters of output beside a running task
const PAGES = 12; // of peers: the hub cuts a list to what one frame holds

/** Events: `change`, whose detail is a set of what changed (tasks, messages, peers, dead, pulse, keys, all). */
export class Picture extends EventTarget {
  me = null;
  tasks = new Map();
  messages = new Map();
  peers = new Map();
  dead = new Map();
  lines = new Map();
  keys = null;
  status = null;
  pulses = [];
  trips = [];
  skew = 0;
  #link;
  #told = 0;
  #readAt = 0;
  #reading = 0;
  #timers = new Map();

  constructor(link) {
    super();
    this.#link = link;
    link.addEventListener("open", () => this.#begin());
    link.addEventListener("heard", ({ detail }) => detail.type === "event" && detail.event === "feed" && this.#take(detail));
    link.addEventListener("pong", ({ detail }) => this.trips.push(detail));
  }

  /** What time it is at the hub, in milliseconds since 1970. */
  get now() {
    return Date.now() + this.skew;
  }

  /** Whether this session may do something at all; the hub decides about each case. */
  may(action) {
    return this.me?.grants.some((grant) => grant.split(":")[0] === action) ?? false;
  }

  /** Whether it may change what `sender` sent. */
  mayManage(sender) {
    return sender === this.me?.address || this.may("manage");
  }

  /** Read the keys anew, where this operator may. */
  async readKeys() {
    if (!this.may("administer")) return;
    this.keys = await this.#link.call("keys.list");
    this.#changed("keys");
  }

  async #begin() {
    try {
      this.me = await this.#link.call("feed.watch");
      this.skew = this.me.now_ms - Date.now();
      this.#told = 0;
      await this.#read();
    } catch (refusal) {
      if (this.#link.isOpen) this.dispatchEvent(new CustomEvent("refused", { detail: refusal }));
    }
  }

  /** Read everything. What the feed tells meanwhile comes in between, and in order. */
  async #read() {
    const reading = ++this.#reading;
    const ask = (method, params, take) =>
      this.#link.call(method, params).then((found) => reading === this.#reading && take(found));
    this.#readAt = performance.now();
    await Promise.all([
      this.#readTasks(reading),
      ask("message.list", { count: KEPT }, ({ messages }) => this.#replace("messages", messages)),
      ask("dead.list", { count: KEPT }, ({ dead }) => this.#replace("dead", dead.map((each) => ({ ...each, text: titleOf(each) })))),
      ask("status", {}, (status) => (this.status = status)),
      this.#readPeers(reading),
      this.may("administer") ? ask("keys.list", {}, (keys) => (this.keys = keys)) : null,
    ]);
    this.#changed("all");
  }

  /** The newest tasks, and all that somebody works on. */
  async #readTasks(reading) {
    const lists = await Promise.all(
      [{}, { state: "working" }, { state: "input-required" }].map((which) => this.#link.call("task.list", { count: KEPT, ...which })),
    );
    if (reading !== this.#reading) return;
    const found = new Map(lists.flatMap(({ tasks }) => tasks).map((each) => [each.seq, this.#listed(each)]));
    this.tasks = new Map([...found].sort(([a], [b]) => a - b));
    this.#changed("tasks");
  }

  async #readPeers(reading) {
    const found = [];
    for (let page = 0; page < PAGES; page++) {
      const told = await this.#link.call("peers", found.length ? { after: found.at(-1).address } : {});
      found.push(...told.peers);
      if (!told.is_cut) break;
    }
    if (reading !== this.#reading) return;
    this.peers = new Map(found.map((each) => [each.address, whole(each)]));
  }

  #listed(facts) {
    const known = this.tasks.get(facts.seq);
    const { body, output, report, prompt, ...rest } = facts;
    return { ...rest, title: titleOf(facts), text: report?.text ?? "", tail: isHeld(facts.state) ? known?.tail ?? "" : "" };
  }

  #replace(what, found) {
    const key = what === "dead" ? deadKey : (each) => each.seq;
    this[what] = new Map(found.reverse().map((each) => [key(each), each]));
    this.#changed(what);
  }

  #take(told) {
    if (++this.#told % CONFIRM_EVERY === 0) this.#link.call("feed.seen", { n: told.n }).catch(() => {});
    const changed = new Set();
    for (const [kind, take] of Object.entries(TAKES)) {
      if (!told[kind]) continue;
      take.call(this, told[kind]);
      changed.add(SHOWN_IN[kind] ?? kind);
    }
    if (told.keys) this.#later("keys", 300, () => this.readKeys());
    if (told.is_cut) this.#readAnew();
    if (changed.size) this.#changed(...changed);
  }

  takeSent(sent) {
    for (const { is_task: isTask, text, ...facts } of sent) {
      if (isTask) this.#put(this.tasks, facts.seq, { state: "queued", attempt: 0, agent: "", tail: "", updated_ms: facts.sent_ms, ...this.tasks.get(facts.seq), ...facts, title: text });
      else if (!this.messages.has(facts.seq)) this.#put(this.messages, facts.seq, { ...facts, text, stage: "stored", reason: "" });
    }
  }

  takeTasks(tasks) {
    for (const facts of tasks) {
      const known = this.tasks.get(facts.seq);
      if (!known) this.#fetch(facts.seq);
      else Object.assign(known, { question: "", due_ms: 0, is_stopping: false, text: "" }, facts, isHeld(facts.state) ? {} : { tail: "" });
    }
  }

  takeProgress(progress) {
    for (const { seq, text } of progress) {
      const task = this.tasks.get(seq);
      if (task) task.tail = (task.tail + text).slice(-TAIL);
    }
  }

  takeReceipts(receipts) {
    for (const { recipient, stage, first_seq: first, last_seq: last } of receipts) {
      for (const message of between(this.messages, first, last)) {
        if (message.to === recipient && STAGES.indexOf(stage) > STAGES.indexOf(message.stage)) message.stage = stage;
      }
    }
  }

  takeDead(dead) {
    for (const facts of dead) {
      if (facts.closed_by === "task.retry") {
        for (const [key, letter] of this.dead) if (letter.seq === facts.seq) this.dead.delete(key);
      } else if (facts.closed_by) {
        this.dead.delete(`${facts.seq} ${facts.recipient}`);
      } else {
        const known = this.tasks.get(facts.seq) ?? this.messages.get(facts.seq);
        const letter = { seq: facts.seq, kind: this.tasks.has(facts.seq) ? 1 : 0, from: known?.from ?? "", to: facts.recipient, reason: facts.reason, at_ms: facts.at_ms, sent_ms: known?.sent_ms ?? facts.at_ms, text: known?.title ?? known?.text ?? "" };
        if (!known) this.#readAnew();
        this.#put(this.dead, deadKey(letter), letter);
        const message = this.messages.get(facts.seq);
        if (message && message.to === facts.recipient) Object.assign(message, { stage: "dead", reason: facts.reason });
      }
    }
  }

  takePeers(peers) {
    for (const facts of peers) this.peers.set(facts.address, { ...this.peers.get(facts.address), ...facts });
  }

  takePulse(pulse) {
    this.lines = new Map(Object.entries(pulse.lines));
    for (const [address, load] of Object.entries(pulse.loads)) {
      const peer = this.peers.get(address);
      if (peer) peer.load = load;
    }
    const trips = this.trips.splice(0).sort((a, b) => a - b);
    this.pulses.push({ ...pulse, trip: trips.length ? trips[trips.length >> 1] : null });
    if (this.pulses.length > PULSES) this.pulses.shift();
  }

  /** A task that is older than what is kept was taken up again, or was not told in time. */
  async #fetch(seq) {
    try {
      const facts = await this.#link.call("task.get", { seq });
      if (!this.tasks.has(seq)) this.tasks.set(seq, this.#listed(facts));
      this.tasks = new Map([...this.tasks].sort(([a], [b]) => a - b));
      this.#changed("tasks");
    } catch {
      // It is gone, or the link is: the next reading shows what there is.
    }
  }

  /** Keep one more; the oldest goes, but of tasks none that is unfinished. */
  #put(map, key, value) {
    map.set(key, value);
    if (map.size <= KEPT) return;
    for (const [oldest, { state }] of map) {
      if (map.size > 2 * KEPT || !state || isOver(state)) return map.delete(oldest);
    }
  }

  #readAnew() {
    this.#later("all", Math.max(0, this.#readAt + ANEW_MS - performance.now()), () => this.#read());
  }

  /** Read something soon, once, however often that is asked for. Where the link is gone, its return reads all. */
  #later(what, wait, read) {
    if (this.#timers.has(what)) return;
    const timer = setTimeout(() => {
      this.#timers.delete(what);
      if (this.#link.isOpen) read().catch(() => {});
    }, wait);
    this.#timers.set(what, timer);
  }

  #changed(...what) {
    this.dispatchEvent(new CustomEvent("change", { detail: new Set(what) }));
  }
}

const TAKES = {
  sent: Picture.prototype.takeSent,
  tasks: Picture.prototype.takeTasks,
  progress: Picture.prototype.takeProgress,
  receipts: Picture.prototype.takeReceipts,
  dead: Picture.prototype.takeDead,
  peers: Picture.prototype.takePeers,
  pulse: Picture.prototype.takePulse,
};
const SHOWN_IN = { sent: "sent", progress: "tasks", receipts: "messages" };

/** A peer as a list tells it, with what the feed tells of it. */
export function whole(facts) {
  const { busy, slots, waiting, unread, wake, sessions } = facts;
  const all = (name) => [...new Set(sessions.flatMap((each) => each[name] ?? []))];
  return { ...facts, load: [busy, slots, waiting, unread, WAKES.indexOf(wake)], queues: all("queues"), runners: all("runner") };
}

export const deadKey = (letter) => `${letter.seq} ${letter.to}`;

/** What a task asks for, or a message says, in one line. */
export function titleOf(facts) {
  return facts.title ?? textOf(facts.body).replace(/\s+/g, " ").trim();
}

function* between(messages, first, last) {
  if (last - first > messages.size) {
    for (const message of messages.values()) if (message.seq >= first && message.seq <= last) yield message;
  } else {
    for (let seq = first; seq <= last; seq++) if (messages.has(seq)) yield messages.get(seq);
  }
}
