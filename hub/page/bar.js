// The bar above and what stands below it: who this is, whether the hub is there, and what waits for a person.

import { at, el, say, set } from "./dom.js";
import { many, span } from "./words.js";

const MAY = [
  ["new-task", "submit", "submit tasks"],
  ["new-message", "send", "send messages"],
];
const HOW = "Ask for a link where the hub runs, and open it here. It signs you in once:";
const AGAIN = "That link was used already, or is too old. Ask for another where the hub runs, and open it here:";
const HINT = "This page comes back by itself when you are signed in.";

export class Bar {
  constructor(picture, link, open) {
    this.picture = picture;
    this.open = open;
    this.asking = "";
    this.again = el("button", { type: "button", class: "link", onclick: () => link.start() }, "Try now");
    link.addEventListener("open", () => this.#tell());
    link.addEventListener("shut", ({ detail: wait }) => this.#gone(wait));
    link.addEventListener("signed-out", () => this.#signedOut());
    picture.addEventListener("refused", ({ detail: refusal }) => this.#state("shut", "refused", refusal.message));
  }

  /** The picture was read: everything works. */
  ready() {
    this.#state("open", "connected");
  }

  /** Tell which tasks wait for an answer. */
  draw() {
    const asking = [...this.picture.tasks.values()].filter((task) => task.state === "input-required").map((task) => task.seq);
    if (this.asking === asking.join()) return;
    this.asking = asking.join();
    const links = asking.slice(-3).map((seq) => [el("button", { type: "button", class: "link", onclick: () => this.open("task", seq) }, `#${seq}`), " "]);
    const what = asking.length === 1 ? "A task waits for an answer: " : `${many(asking.length, "task")} wait for an answer: `;
    at("asks").hidden = !asking.length;
    at("asks").replaceChildren(what, ...links.flat());
  }

  #gone(wait) {
    this.#state("shut", "the hub is gone", `The hub is not there. What you see is how it was; trying again in ${span(wait)}. `, this.again);
  }

  #signedOut() {
    this.#state("out", "signed out");
    const why = location.hash === "#used" ? AGAIN : HOW;
    const card = el("section", { class: "panel signed-out" }, el("h2", {}, "You are not signed in"), el("p", {}, why), el("code", {}, "orchestra page"), el("p", { class: "hint" }, HINT));
    document.querySelector(".halls").before(card);
  }

  /** Say how the link is: `open`, `shut` or `out`. */
  #state(state, text, ...more) {
    const { me } = this.picture;
    const isOpen = state === "open";
    document.body.dataset.link = state;
    set(at("hub"), "class", `hub ${state}`);
    say(at("hub-text"), text);
    say(at("me"), state === "out" || !me ? "" : me.address);
    at("out").hidden = !isOpen;
    for (const [id, action, what] of MAY) {
      at(id).disabled = !isOpen || !this.picture.may(action);
      set(at(id), "title", isOpen && at(id).disabled ? `${me.address} may not ${what}` : false);
    }
    this.#tell(...more);
  }

  #tell(...what) {
    document.querySelector(".signed-out")?.remove();
    at("gone").hidden = !what.length;
    at("gone").replaceChildren(...what);
  }
}
