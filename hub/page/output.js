// What a task puts out, as it streams.

import { el } from "./dom.js";
import { bytesOf } from "./words.js";

const KEPT = 256 * 1024; // characters; of more, the end
const CODES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;

export class Output {
  constructor() {
    this.pre = el("pre", { class: "output", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Output" });
    this.note = el("p", { class: "hint", hidden: true });
    this.node = el("section", {}, el("h3", {}, "Output"), this.note, this.pre);
    this.decoder = new TextDecoder();
    this.text = "";
  }

  /** Show what came before, or the whole. */
  reset(text, note = "") {
    this.decoder = new TextDecoder();
    this.text = "";
    this.#add(text);
    this.note.textContent = note;
    this.note.hidden = !note;
  }

  /** Take the next piece; a character may be split between two. */
  append(data) {
    this.#add(this.decoder.decode(bytesOf(data), { stream: true }));
  }

  #add(text) {
    const isAtEnd = this.pre.scrollHeight - this.pre.scrollTop - this.pre.clientHeight < 30;
    const plain = text.replace(CODES, "").replace(/\r\n/g, "\n");
    this.text += plain;
    if (this.text.length > KEPT) {
      this.text = this.text.slice(-KEPT / 2);
      this.pre.replaceChildren(this.text);
    } else if (this.text === plain) {
      this.pre.replaceChildren(this.text);
    } else {
      this.pre.append(plain);
    }
    this.pre.classList.toggle("none", !this.text);
    if (isAtEnd) this.pre.scrollTop = this.pre.scrollHeight;
  }
}
