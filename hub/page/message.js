// One message: what it says, and how far it has come for whom.

import { facts } from "./detail.js";
import { el, say } from "./dom.js";
import { stages } from "./messages.js";
import { Story } from "./story.js";
import { moment, size, textOf } from "./words.js";

export class MessageDetail {
  constructor({ picture, link, deeds }, seq) {
    this.picture = picture;
    this.link = link;
    this.seq = seq;
    this.title = `Message ${seq}`;
    this.body = el("pre", { class: "job" });
    this.facts = el("div");
    this.recipients = el("ul", { class: "recipients", "aria-label": "Recipients" });
    this.reply = el("button", { type: "button", class: "button", hidden: true, onclick: () => deeds.send(this.message.from, this.seq) }, "Reply");
    this.read = el("button", { type: "button", class: "button", hidden: true, onclick: () => deeds.markRead(seq) }, "Mark as read");
    this.resend = el("button", { type: "button", class: "button main", hidden: true, onclick: () => deeds.resend({ seq, kind: 0 }) }, "Send again");
    this.drop = el("button", { type: "button", class: "button", hidden: true, onclick: () => deeds.drop({ seq }) }, "Drop");
    this.story = new Story(link, seq);
    this.fault = el("p", { class: "fault", hidden: true });
    this.node = el("div", {}, el("p", { class: "line" }, el("span", { class: "grow" }), this.reply, this.read, this.resend, this.drop), this.fault, this.body, this.recipients, this.facts, this.story.node);
  }

  async load() {
    try {
      [this.message] = await Promise.all([this.link.call("message.get", { seq: this.seq }), this.story.load()]);
      this.shown = this.#standing();
      this.#show(this.message);
      this.fault.hidden = true;
    } catch (refusal) {
      if (!this.link.isOpen) return;
      say(this.fault, refusal.message);
      this.fault.hidden = false;
    }
  }

  draw() {
    if (this.shown !== undefined && this.#standing() !== this.shown) this.load();
  }

  #standing() {
    const isDead = [...this.picture.dead.values()].some((letter) => letter.seq === this.seq);
    return `${this.picture.messages.get(this.seq)?.stage} ${isDead}`;
  }

  #show(message) {
    const { options, recipients } = message;
    const me = this.picture.me.address;
    say(this.body, options.sealed ? "(sealed: only its recipient can read it)" : textOf(message.body));
    this.reply.hidden = message.from === me || !recipients.some((each) => each.recipient === me);
    this.read.hidden = !recipients.some((each) => each.recipient === me && each.is_unread);
    const isDead = [...this.picture.dead.values()].some((letter) => letter.seq === this.seq);
    this.resend.hidden = this.drop.hidden = !isDead || !this.picture.mayManage(message.from);
    this.recipients.replaceChildren(
      ...recipients.map((each) => {
        const shown = stages();
        shown.update(each.recipient, each.stage, each.reason);
        return el("li", {}, el("span", { class: "name" }, each.recipient), shown.node, each.reason ? el("span", { class: "tail bad" }, each.reason) : null);
      }),
    );
    this.facts.replaceChildren(
      el("h3", {}, "Facts"),
      facts([
        ["From", message.from],
        ["To", message.to],
        ["Sent", moment(message.sent_ms)],
        ["Entry", options.entry],
        ["Priority", options.priority],
        ["Reply to", options.reply_to ? `#${options.reply_to}` : ""],
        ["Sent again from", options.resend_of ? `#${options.resend_of}` : ""],
        ["Size", size(new Blob([textOf(message.body)]).size)],
        ["More recipients", message.is_cut ? "yes" : ""],
      ]),
    );
  }
}
