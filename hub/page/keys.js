// The keys that are let in, those that ask to be, and what may be done about them.

import { el, say, set } from "./dom.js";
import { List } from "./list.js";
import { ago, byName, many, when } from "./words.js";

export class Keys {
  name = "keys";
  label = "Keys";

  constructor(picture, open, deeds) {
    this.picture = picture;
    this.deeds = deeds;
    this.list = new List({
      label: "Keys: those that wait first",
      keyOf: (key) => `${key.what} ${key.public_key}`,
      make: (key) => this.#row(key),
      open: (key) => this.#open(open, key),
      empty: "No keys.",
    });
    this.tools = [el("span", { class: "grow hint" }, "Let somebody in: orchestra invite agent/NAME")];
  }

  get isAllowed() {
    return this.picture.may("administer");
  }

  get count() {
    return this.picture.keys?.pending.length ?? 0;
  }

  draw() {
    const { keys, pending, invitations } = this.picture.keys ?? { keys: [], pending: [], invitations: [] };
    keys.sort((a, b) => byName(a.address, b.address));
    const open = invitations.filter((each) => each.is_open);
    this.list.draw([
      ...pending.map((each) => ({ ...each, what: "pending" })),
      ...open.map((each) => ({ ...each, what: "invitation" })),
      ...keys.map((each) => ({ ...each, what: "key" })),
    ]);
  }

  #open(open, chosen) {
    const key = this.picture.keys.keys.find((each) => chosen === `key ${each.public_key}`);
    if (key) open("peer", key.address);
  }

  #row(key) {
    const name = el("span", { class: "name" });
    const print = el("code", { class: "print" });
    const facts = el("span", { class: "tail" });
    const node = el("span", { class: "key" }, name, print, facts);
    const more = el("span", { class: "row-deeds" }, this.#deeds(key));
    const update = (found) => {
      say(name, found.what === "pending" ? "an unknown key" : found.address);
      set(name, "class", found.what === "pending" ? "name asks" : "name");
      say(print, found.fingerprint ?? "");
      say(facts, tellOf(found, this.picture.now));
    };
    return { node, update, more };
  }

  #deeds(key) {
    const button = (word, deed, tone = "") =>
      el("button", { type: "button", class: `button small ${tone}`, "aria-label": `${word} ${key.address ?? key.fingerprint}`, onclick: () => deed(key) }, word);
    if (key.what === "pending") return [button("Accept", this.deeds.acceptKey, "main"), button("Reject", this.deeds.rejectKey)];
    return [button("Revoke", this.deeds.revokeKey, "bad")];
  }
}

function tellOf(key, now) {
  if (key.what === "pending") return `knocked ${ago(key.at_ms, now)} ago from ${key.source}`;
  if (key.what === "invitation") return `open invitation, ${many(key.uses_left, "use")} left, until ${when(key.expires_ms)}`;
  const until = key.until_ms ? `, replaced, let in until ${when(key.until_ms)}` : "";
  return `${key.sessions ? many(key.sessions, "session") : "not connected"}, since ${when(key.since_ms)}${until}`;
}
