// The dead letters, each with what can be done about it.

import { el, say, set } from "./dom.js";
import { List } from "./list.js";
import { deadKey } from "./reading.js";
import { ago } from "./words.js";

export class Dead {
  name = "dead";
  label = "Dead";
  more = " letters";

  constructor(picture, open, deeds) {
    this.picture = picture;
    this.deeds = deeds;
    this.list = new List({
      label: "Dead letters, the newest first",
      keyOf: deadKey,
      make: (letter) => this.#row(letter),
      open: (key) => open(...this.#whatIs(key)),
      empty: "Nothing is dead: everything arrived, or still waits.",
    });
    const all = (deed) => () => deed([...this.picture.dead.values()]);
    this.resendAll = el("button", { type: "button", class: "button", onclick: all(deeds.resendAll) }, "Send all again");
    this.dropAll = el("button", { type: "button", class: "button", onclick: all(deeds.dropAll) }, "Drop all");
    this.tools = [el("span", { class: "grow" }), this.resendAll, this.dropAll];
  }

  get count() {
    return this.picture.dead.size;
  }

  draw() {
    for (const button of [this.resendAll, this.dropAll]) button.hidden = this.count < 2 || !this.picture.may("manage");
    this.list.draw([...this.picture.dead.values()].reverse());
  }

  #whatIs(key) {
    const letter = this.picture.dead.get(key);
    return [letter?.kind ? "task" : "message", Number(key.split(" ")[0])];
  }

  #row(letter) {
    const seq = el("span", { class: "seq" });
    const ways = el("span", { class: "ways" });
    const text = el("span", { class: "title" });
    const reason = el("span", { class: "tail bad" });
    const time = el("span", { class: "time" });
    const again = letter.kind ? "Retry" : "Resend";
    const more = el(
      "span",
      { class: "row-deeds" },
      el("button", { type: "button", class: "button small", "aria-label": `${again} ${letter.seq}`, onclick: () => this.deeds.resend(letter) }, again),
      el("button", { type: "button", class: "button small plain", "aria-label": `Drop ${letter.seq}`, onclick: () => this.deeds.drop(letter) }, "Drop"),
    );
    const update = (facts) => {
      say(seq, `#${facts.seq}`);
      say(ways, facts.from ? `${facts.from} → ${facts.to}` : facts.to);
      say(text, facts.text || (facts.kind ? "(task)" : "(message)"));
      say(reason, facts.reason);
      say(time, ago(facts.at_ms, this.picture.now));
      set(time, "title", "how long it is dead");
      more.hidden = !this.picture.mayManage(facts.from);
    };
    return { node: el("span", { class: "letter" }, seq, ways, text, time, reason), update, more };
  }
}
