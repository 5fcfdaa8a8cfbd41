// The list of messages, and how far each has come.

import { el, say, set } from "./dom.js";
import { List } from "./list.js";
import { ago, STAGES } from "./words.js";

export class Messages {
  name = "messages";
  label = "Messages";
  text = "";

  constructor(picture, open) {
    this.picture = picture;
    this.list = new List({
      label: "Messages, the newest first",
      keyOf: (message) => message.seq,
      make: () => this.#row(),
      open: (seq) => open("message", seq),
      empty: "",
    });
    this.search = el("input", { type: "search", class: "search", placeholder: "search  /", "aria-label": "Search the messages", oninput: () => this.#searched() });
    this.tools = [el("span", { class: "grow" }), this.search];
  }

  get count() {
    return 0;
  }

  draw() {
    const all = [...this.picture.messages.values()].reverse();
    say(this.list.empty, all.length ? "No message is like that." : "No messages yet. Press m to send one.");
    this.list.draw(all.filter((each) => !this.text || `${each.seq} ${each.from} ${each.to} ${each.text}`.toLowerCase().includes(this.text)));
  }

  #searched() {
    this.text = this.search.value.toLowerCase();
    this.draw();
  }

  #row() {
    const seq = el("span", { class: "seq" });
    const ways = el("span", { class: "ways" });
    const text = el("span", { class: "title" });
    const stage = stages();
    const time = el("span", { class: "time" });
    const node = el("span", { class: "message" }, seq, ways, text, stage.node, time);
    const update = (message) => {
      say(seq, `#${message.seq}`);
      say(ways, `${message.from} → ${message.to}`);
      say(text, message.sealed ? "(sealed)" : (message.entry ? `${message.entry}: ` : "") + message.text);
      set(text, "class", message.sealed ? "title off" : "title");
      stage.update(message.to, message.stage, message.reason);
      say(time, ago(message.sent_ms, this.picture.now));
    };
    return { node, update };
  }
}

/** How far a message has come, as four steps and a word. */
export function stages() {
  const steps = STAGES.map(() => el("i", { class: "step" }));
  const word = el("span", { class: "word" });
  const update = (to, stage, reason) => {
    const reached = STAGES.indexOf(stage);
    const isMany = to.startsWith("channel/") || to === "*";
    steps.forEach((step, place) => {
      set(step, "class", stage === "dead" ? "step bad" : place <= reached ? "step on" : "step");
      step.hidden = isMany;
    });
    say(word, isMany ? (to === "*" ? "to everyone" : "entry") : stage);
    set(node, "title", reason);
    set(node, "class", stage === "dead" ? "stages bad" : "stages");
  };
  const node = el("span", { class: "stages" }, el("span", { class: "steps", "aria-hidden": "true" }, steps), word);
  return { node, update };
}
