// The story of a message or task, line by line.

import { el } from "./dom.js";
import { moment, when } from "./words.js";

export class Story {
  constructor(link, seq) {
    this.link = link;
    this.seq = seq;
    this.lines = el("ol", { class: "story" });
    this.node = el("section", {}, el("h3", {}, "Story"), this.lines);
  }

  async load() {
    const told = await this.link.call("trace", { seq: this.seq });
    this.lines.replaceChildren(
      ...told.lines.map((line) =>
        el("li", {}, el("time", { title: moment(line.at_ms) }, when(line.at_ms)), el("span", { class: "who" }, line.who), el("span", { class: "what" }, line.what)),
      ),
    );
  }
}
