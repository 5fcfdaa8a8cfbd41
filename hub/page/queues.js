// What waits where, and who serves it.

import { el, say, set, svg } from "./dom.js";
import { List } from "./list.js";
import { byName, many } from "./words.js";

export class Queues {
  constructor(picture, node, open) {
    this.picture = picture;
    this.list = new List({
      label: "Queues",
      keyOf: (queue) => queue.address,
      make: () => this.#row(),
      open,
      empty: "No queue is served, and none has tasks.",
    });
    node.append(el("div", { class: "group" }, el("h2", {}, "Queues"), this.list.whole));
  }

  draw() {
    const queues = new Map();
    const queue = (address) => queues.get(address) ?? queues.set(address, { address, waiting: 0, agents: 0, free: 0 }).get(address);
    for (const peer of this.picture.peers.values()) {
      if (peer.state === "offline") continue;
      for (const address of peer.queues ?? []) {
        const served = queue(address);
        served.agents += 1;
        served.free += Math.max(0, peer.load[1] - peer.load[0]);
      }
    }
    for (const [address, waiting] of this.picture.lines) queue(address).waiting = waiting;
    const all = [...queues.values()].sort((a, b) => b.waiting - a.waiting || byName(a.address, b.address));
    this.most = Math.max(1, ...all.map(({ waiting }) => waiting));
    this.list.draw(all);
  }

  #row() {
    const name = el("span", { class: "name" });
    const waiting = el("span", { class: "load" });
    const bar = svg("rect", { height: 4, rx: 2, class: "taken" });
    const drawing = svg("svg", { class: "bar-drawing", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100, height: 4, rx: 2, class: "slots" }), bar);
    const below = el("span", { class: "tail" });
    const node = el("span", { class: "queue" }, name, waiting, drawing, below);
    const update = (queue) => {
      say(name, queue.address.startsWith("queue/") ? queue.address.slice(6) : queue.address);
      say(waiting, queue.waiting ? `${queue.waiting} wait` : "empty");
      set(bar, "width", (100 * queue.waiting) / this.most);
      say(below, served(queue));
      set(below, "class", queue.waiting && !queue.agents && queue.address.startsWith("queue/") ? "tail asks" : "tail");
    };
    return { node, update };
  }
}

function served({ address, agents, free }) {
  if (!address.startsWith("queue/")) return "waits for this agent";
  if (!agents) return "no agent serves it now";
  return `${many(agents, "agent serves", "agents serve")} it, ${many(free, "slot")} free`;
}
