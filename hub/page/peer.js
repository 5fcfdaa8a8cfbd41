// One peer: where it stands, what it does, who speaks for it.

import { facts } from "./detail.js";
import { el, say } from "./dom.js";
import { reach } from "./peers.js";
import { peerOf } from "./reading.js";
import { ago, isHeld, moment, wokenOf } from "./words.js";

export class PeerDetail {
  constructor({ picture, link, deeds, open }, address) {
    this.picture = picture;
    this.link = link;
    this.open = open;
    this.address = address;
    this.title = address;
    this.state = el("p", { class: "line" });
    this.task = el("button", { type: "button", class: "button", hidden: !address.startsWith("agent/"), onclick: () => deeds.submit(address) }, "New task");
    this.message = el("button", { type: "button", class: "button", onclick: () => deeds.send(address) }, "Message");
    this.facts = el("div");
    this.tasks = el("ul", { class: "links" });
    this.sessions = el("div");
    this.node = el("div", {}, el("p", { class: "line" }, this.state, el("span", { class: "grow" }), this.task, this.message), this.facts, this.tasks, this.sessions);
  }

  async load() {
    const told = await this.link.call("peers", { after: before(this.address) }).catch(() => null);
    const found = told?.peers.find((each) => each.address === this.address);
    if (found) this.picture.peers.set(this.address, peerOf(found));
    this.shown = "";
    this.draw();
  }

  draw() {
    const peer = this.picture.peers.get(this.address);
    if (!peer) return;
    const held = [...this.picture.tasks.values()].filter((task) => isHeld(task.state) && task.agent === this.address);
    const shown = JSON.stringify([peer.state, peer.load, peer.away_text, peer.session_count, held.map((task) => task.seq)]);
    if (shown === this.shown) return;
    if (this.shown && this.count !== peer.session_count) this.load();
    this.shown = shown;
    this.count = peer.session_count;
    this.#show(peer, held);
  }

  #show(peer, held) {
    const [busy, slots, waiting, unread] = peer.load;
    this.state.replaceChildren(el("span", { class: `dot ${peer.state}` }), peer.state, peer.since_ms ? ` for ${ago(peer.since_ms, this.picture.now)}` : "");
    this.facts.replaceChildren(
      facts([
        ["Now", reach(peer, this.picture.now)],
        ["Woken", wokenOf(peer.load)],
        ["Runs", peer.runners?.map((each) => (each === "exec" ? "commands, as they are" : `${each}: takes prompts`)).join(", ")],
        ["Away", peer.away_text],
        ["Tasks", slots ? `${busy} of ${slots} slots` : ""],
        ["Queues", peer.queues?.join(", ")],
        ["Messages", unread ? `${unread} unread, ${waiting} of them to be delivered` : "none unread"],
        ["Hosts", peer.hosts.join(", ")],
        ["Generation", peer.generation],
        ["Seen", peer.seen_ms ? moment(peer.seen_ms) : ""],
      ]),
    );
    this.tasks.replaceChildren(...held.map((task) => el("li", {}, el("button", { type: "button", class: "link", onclick: () => this.open("task", task.seq) }, `#${task.seq} ${task.title}`))));
    this.sessions.replaceChildren(...(peer.state === "offline" ? [] : [el("h3", {}, "Sessions"), ...(peer.sessions ?? []).map(sessionFacts)]));
  }
}

function sessionFacts(session) {
  const { number, since_ms: since, is_worker: isWorker, slots, tasks, queues, program, host, pid, version, ...about } = session;
  const more = Object.entries(about).filter(([, value]) => value).map(([name, value]) => `${name} ${value}`).join(", ");
  return facts([
    ["Program", [program, version].filter(Boolean).join(" ")],
    ["Where", [host, pid && `process ${pid}`].filter(Boolean).join(", ")],
    ["Since", moment(since)],
    ["Does", isWorker ? `tasks, ${slots} at once` : ""],
    ["Says", more],
  ]);
}

/** The address right before this one, so that a list that begins after it begins with this. */
function before(address) {
  return address.slice(0, -1) + String.fromCharCode(address.charCodeAt(address.length - 1) - 1) + "~";
}
