// The picture of the hub: what was read when the link opened, and what the feed told since.

import { deadKey, readDead, readMessages, readPeers, readTasks, sorted, taskOf } from "./reading.js";
import { isHeld, isOver, STAGES } from "./words.js";

const KEPT = 400; // tasks, messages and dead letters
const PULSES = 120; // seconds that are drawn
const CONFIRM_EVERY = 4; // of the feed's events
const ANEW_MS = 3000; // between two readings of everything
const TAIL = 400; // characters of output beside a running task

/**
 * Events: `change`, whose detail is a set of what changed (tasks, messages, peers, dead, keys, pulse; all after a
 * reading), and `refused`, whose detail is why this session may not see it.
 */
export class Picture extends EventTarget {
  me = null;
  tasks = new Map();
  messages = new Map();
  dead = new Map();
  peers = new Map();
  lines = new Map();
  keys = null;
  pulses = [];
  #link;
  #skew = 0;
  #trips = [];
  #told = 0;
  #readAt = 0;
  #reading = 0;
  #fresh = {};
  #timers = new Map();

  constructor(link) {
    super();
    this.#link = link;
    link.addEventListener("open", () => this.#begin());
    link.addEventListener("heard", ({ detail }) => detail.event === "feed" && this.#take(detail));
    link.addEventListener("pong", ({ detail }) => this.#trips.push(detail));
  }

  /** What time it is at the hub, in milliseconds since 1970. */
  get now() {
    return Date.now() + this.#skew;
  }

  /** Whether this session may do something at all; the hub decides about each case. */
  may(action) {
    return this.me?.grants.some((grant) => grant.split(":")[0] === action) ?? false;
  }

  /** Whether it may change what `sender` sent. */
  mayManage(sender) {
    return sender === this.me?.address || this.may("manage");
  }

  /** Read the keys anew, where this session may. */
  async readKeys() {
    if (!this.may("administer")) return;
    this.keys = await this.#link.call("keys.list");
    this.#changed("keys");
  }

  async #begin() {
    try {
      this.me = await this.#link.call("feed.watch");
      this.#skew = this.me.now_ms - Date.now();
      this.#told = 0;
      await this.#read();
    } catch (refusal) {
      if (this.#link.isOpen) this.dispatchEvent(new CustomEvent("refused", { detail: refusal }));
    }
  }

  /** Read everything. What the feed tells meanwhile is newer, or will be told again. */
  async #read() {
    const reading = ++this.#reading;
    this.#fresh = { tasks: new Set(), messages: new Set(), dead: new Set(), peers: new Set() };
    this.#readAt = performance.now();
    const link = this.#link;
    const [tasks, messages, dead, peers] = await Promise.all([readTasks(link, KEPT), readMessages(link, KEPT), readDead(link, KEPT), readPeers(link), this.readKeys()]);
    if (reading !== this.#reading) return;
    for (const [seq, task] of tasks) if (isHeld(task.state)) task.tail = this.tasks.get(seq)?.tail ?? "";
    for (const [what, read] of Object.entries({ tasks, messages, dead, peers })) this[what] = this.#merged(read, this[what], this.#fresh[what]);
    this.tasks = sorted([...this.tasks]);
    this.messages = sorted([...this.messages]);
    this.#changed("all");
  }

  /** Return what was read, but for what the feed told since that began. */
  #merged(read, known, fresh) {
    for (const key of fresh) {
      if (known.has(key)) read.set(key, known.get(key));
      else read.delete(key);
    }
    return read;
  }

  #take(told) {
    if (++this.#told % CONFIRM_EVERY === 0) this.#link.call("feed.seen", { n: told.n }).catch(() => {});
    const kinds = Object.keys(TAKES).filter((kind) => told[kind]);
    for (const kind of kinds) TAKES[kind].call(this, told[kind]);
    if (told.keys) this.#later("keys", 300, () => this.readKeys());
    if (told.is_cut) this.#readAnew();
    if (kinds.length) this.#changed(...kinds);
  }

  takeSent(sent) {
    for (const { is_task: isTask, text, ...facts } of sent) {
      if (isTask) this.#put("tasks", facts.seq, { state: "queued", attempt: 0, agent: "", tail: "", updated_ms: facts.sent_ms, ...this.tasks.get(facts.seq), ...facts, title: text });
      else this.#put("messages", facts.seq, { stage: "stored", reason: "", ...this.messages.get(facts.seq), ...facts, text });
    }
  }

  takeTasks(tasks) {
    for (const facts of tasks) {
      const known = this.tasks.get(facts.seq);
      const undone = { question: "", due_ms: 0, is_stopping: false, text: "", ...(isHeld(facts.state) ? {} : { tail: "" }) };
      if (known) this.#put("tasks", facts.seq, Object.assign(known, undone, facts));
      else this.#fetch(facts.seq);
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
        if (message.to !== recipient || STAGES.indexOf(stage) <= STAGES.indexOf(message.stage)) continue;
        message.stage = stage;
        this.#fresh.messages?.add(message.seq);
      }
    }
  }

  takeDead(dead) {
    for (const facts of dead) {
      if (facts.closed_by === "task.retry") this.#close((letter) => letter.seq === facts.seq);
      else if (facts.closed_by) this.#close((letter) => letter.seq === facts.seq && letter.to === facts.recipient);
      else this.#bury(facts);
    }
  }

  #bury({ seq, recipient, reason, at_ms: atMs }) {
    const task = this.tasks.get(seq);
    const message = this.messages.get(seq);
    const known = task ?? message;
    if (!known) return this.#readAnew();
    const { from, sent_ms: sentMs, title, text } = known;
    const letter = { seq, kind: task ? 1 : 0, from, to: recipient, reason, at_ms: atMs, sent_ms: sentMs, text: title ?? text };
    this.#put("dead", deadKey(letter), letter);
    if (message?.to === recipient) this.#put("messages", seq, Object.assign(message, { stage: "dead", reason }));
  }

  #close(isMeant) {
    for (const [key, letter] of this.dead) {
      if (!isMeant(letter)) continue;
      this.dead.delete(key);
      this.#fresh.dead?.add(key);
    }
  }

  takePeers(peers) {
    for (const facts of peers) {
      this.peers.set(facts.address, { sessions: [], ...this.peers.get(facts.address), ...facts });
      this.#fresh.peers?.add(facts.address);
    }
  }

  takePulse(pulse) {
    this.lines = new Map(Object.entries(pulse.lines));
    for (const [address, load] of Object.entries(pulse.loads)) {
      const peer = this.peers.get(address);
      if (peer) peer.load = load;
    }
    const trips = this.#trips.splice(0).sort((a, b) => a - b);
    this.pulses.push({ ...pulse, trip: trips.length ? trips[trips.length >> 1] : null });
    if (this.pulses.length > PULSES) this.pulses.shift();
  }

  /** A task that is older than what is kept was taken up again. */
  async #fetch(seq) {
    try {
      const facts = await this.#link.call("task.get", { seq });
      this.tasks = sorted([[seq, taskOf(facts)], ...this.tasks]);
      this.#changed("tasks");
    } catch {
      // It is gone, or the link is: the next reading shows what there is.
    }
  }

  /** Keep one, told by the feed; above so many the oldest goes, but of tasks none that is unfinished. */
  #put(what, key, value) {
    const map = this[what];
    map.set(key, value);
    this.#fresh[what]?.add(key);
    if (map.size <= KEPT) return;
    for (const [oldest, { state }] of map) {
      if (!state || isOver(state) || map.size > 2 * KEPT) return map.delete(oldest);
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

/** What takes in each kind of news, in this order: a task is told to be sent before it is told how it stands. */
const TAKES = {
  sent: Picture.prototype.takeSent,
  tasks: Picture.prototype.takeTasks,
  progress: Picture.prototype.takeProgress,
  receipts: Picture.prototype.takeReceipts,
  dead: Picture.prototype.takeDead,
  peers: Picture.prototype.takePeers,
  pulse: Picture.prototype.takePulse,
};

function* between(messages, first, last) {
  if (last - first > messages.size) {
    for (const message of messages.values()) if (message.seq >= first && message.seq <= last) yield message;
  } else {
    for (let seq = first; seq <= last; seq++) if (messages.has(seq)) yield messages.get(seq);
  }
}
