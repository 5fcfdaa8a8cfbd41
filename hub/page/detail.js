// The panel that shows one thing whole.

import { el, say } from "./dom.js";
import { MessageDetail } from "./message.js";
import { PeerDetail } from "./peer.js";
import { TaskDetail } from "./task.js";

const KINDS = { task: TaskDetail, message: MessageDetail, peer: PeerDetail };

export class Detail {
  constructor(node, whole, { shut }) {
    this.node = node;
    this.whole = whole;
    this.shown = null;
    this.key = "";
    this.heading = el("h2");
    const close = el("button", { type: "button", class: "button plain", "aria-label": "Close the detail", onclick: () => this.close() }, "✕");
    this.body = el("div", { class: "body" });
    node.append(el("header", {}, this.heading, close), this.body);
    this.shut = shut;
  }

  get isOpen() {
    return this.shown !== null;
  }

  open(kind, key) {
    if (this.key === `${kind} ${key}`) return this.node.focus();
    this.shown?.end?.();
    this.shown = new KINDS[kind](this.whole, key);
    this.key = `${kind} ${key}`;
    say(this.heading, this.shown.title);
    this.body.replaceChildren(this.shown.node);
    this.node.hidden = false;
    document.body.dataset.detail = kind;
    this.body.scrollTop = 0;
    this.shown.load();
    return this.node.focus({ preventScroll: true });
  }

  close() {
    if (!this.isOpen) return;
    this.shown.end?.();
    this.shown = null;
    this.key = "";
    this.node.hidden = true;
    delete document.body.dataset.detail;
    this.shut();
  }

  draw() {
    this.shown?.draw();
  }

  /** The link is back: read anew. */
  again() {
    this.shown?.load();
  }

  heard(told) {
    this.shown?.heard?.(told);
  }
}

/** A list of facts; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false);
  return el("dl", { class: "facts" }, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
