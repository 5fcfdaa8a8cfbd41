// Who is there, what they do, and how they can be reached.

import { el, say, set, svg } from "./dom.js";
import { List } from "./list.js";
import { ago, byName, count, isHeld, many, wokenOf } from "./words.js";

const KINDS = [["agent", "Agents"], ["matrix", "Matrices"], ["operator", "Operators"]];
const ORDER = { online: 0, away: 1, offline: 2 };
const SHOWN = 150; // of one kind; those who are there come first

export class Peers {
  name = "peers";
  label = "Peers";
  isBeside = true;

  constructor(picture, node, open) {
    this.picture = picture;
    this.groups = KINDS.map(([kind, label]) => {
      const number = el("span", { class: "number" });
      const list = new List({ label, keyOf: (peer) => peer.address, make: () => this.#row(), open: (address) => open("peer", address), empty: "" });
      const section = el("div", { class: "group" }, el("h2", {}, label, " ", number), list.whole);
      return { kind, number, list, section };
    });
    this.none = el("p", { class: "empty" }, "Nobody is known yet.");
    node.append(...this.groups.map(({ section }) => section), this.none);
  }

  draw() {
    this.doing = new Map();
    for (const task of this.picture.tasks.values()) {
      if (isHeld(task.state) && task.agent) this.doing.set(task.agent, [...(this.doing.get(task.agent) ?? []), task]);
    }
    const all = [...this.picture.peers.values()].sort(byPresence);
    this.none.hidden = all.length > 0;
    for (const { kind, number, list, section } of this.groups) {
      const peers = all.filter((peer) => peer.address.startsWith(`${kind}/`));
      section.hidden = !peers.length;
      say(number, `${peers.filter((peer) => peer.state !== "offline").length} of ${peers.length}`);
      list.draw(peers.slice(0, SHOWN));
    }
  }

  #row() {
    const dot = el("span", { class: "dot" });
    const name = el("span", { class: "name" });
    const below = el("span", { class: "tail" });
    const slots = meter();
    const letters = el("span", { class: "letters" });
    const node = el("span", { class: "peer" }, dot, name, letters, slots.node, below);
    const update = (peer) => {
      const [, offered, , unread] = peer.load;
      set(dot, "class", `dot ${peer.state}`);
      say(name, peer.address.split("/")[1]);
      set(name, "title", `${peer.address} is ${peer.state}; ${wokenOf(peer.load)}`);
      say(letters, unread ? `${count(unread)} unread` : "");
      slots.update(Math.min(offered, this.doing.get(peer.address)?.length ?? 0), offered);
      say(below, this.#below(peer));
    };
    return { node, update };
  }

  /** What it does now, or how it can be reached. */
  #below(peer) {
    const task = this.doing.get(peer.address)?.at(-1);
    if (task && peer.state !== "offline") return `#${task.seq} ${task.title}`;
    return reach(peer, this.picture.now, 0);
  }
}

/** How a peer can be reached now, in one line. The hub tells how busy it is once a second; a list of tasks knows sooner. */
export function reach(peer, now, busy = peer.load[0]) {
  const waits = peer.load[2] ? `; ${many(peer.load[2], "message waits", "messages wait")}` : "";
  if (peer.state === "offline") return `${peer.since_ms ? `gone for ${ago(peer.since_ms, now)}` : "never came"}${waits}`;
  if (peer.state === "away") return `away${peer.away_text ? `: ${peer.away_text}` : ""}`;
  if (peer.load[1]) return busy < peer.load[1] ? `is free for ${many(peer.load[1] - busy, "task")}` : "all its slots are taken";
  return wokenOf(peer.load) + waits;
}

function byPresence(a, b) {
  return ORDER[a.state] - ORDER[b.state] || byName(a.address, b.address);
}

/** Slots of an agent: which are taken. Many are drawn as one bar. */
function meter() {
  const bar = svg("rect", { height: 6, rx: 2, class: "taken" });
  const whole = svg("rect", { width: 36, height: 6, rx: 2, class: "slots" });
  const drawing = svg("svg", { width: 36, height: 6, viewBox: "0 0 36 6", "aria-hidden": "true" }, whole, bar);
  const words = el("span", { class: "load" });
  const node = el("span", { class: "meter" }, words, drawing);
  const update = (busy, slots) => {
    node.hidden = !slots;
    if (!slots) return;
    set(bar, "width", Math.min(36, Math.round((36 * busy) / slots)));
    say(words, `${busy}/${slots}`);
    set(node, "title", `${busy} of ${slots} slots are taken`);
  };
  return { node, update };
}
