// A list that changes in place: what stays keeps its element, its focus and its place on the screen.

import { el, set } from "./dom.js";

export class List {
  /**
   * `make` gives, for an item, its `node` and an `update` for later; `keyOf` what it is known by; `open` is called when
   * it is chosen. Up, down, Home and End move; one row at a time is reached with Tab.
   */
  constructor({ label, make, keyOf, open, empty }) {
    this.rows = new Map();
    this.make = make;
    this.keyOf = keyOf;
    this.open = open;
    this.chosen = null;
    this.node = el("ul", { class: "rows", "aria-label": label, role: "list", onkeydown: (event) => this.#key(event) });
    this.empty = el("div", { class: "empty", hidden: true }, empty);
    this.whole = el("div", { class: "whole" }, this.node, this.empty);
  }

  draw(items) {
    const gone = new Set(this.rows.keys());
    let place = this.node.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      gone.delete(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = this.#make(item, key)));
      row.update(item);
      set(row.button, "aria-current", key === this.chosen ? "true" : false);
      if (row.li !== place) this.node.insertBefore(row.li, place);
      else place = place.nextElementSibling;
    }
    for (const key of gone) {
      this.rows.get(key).li.remove();
      this.rows.delete(key);
    }
    this.empty.hidden = items.length > 0;
    this.#keepOneReachable();
  }

  choose(key) {
    this.chosen = key;
    for (const [each, row] of this.rows) set(row.button, "aria-current", each === key ? "true" : false);
  }

  /** Move the focus into the list. */
  focus() {
    (this.rows.get(this.chosen)?.button ?? this.node.querySelector(".row"))?.focus();
  }

  /** Choose the next row, or the one before. */
  step(by) {
    const buttons = [...this.node.querySelectorAll(".row")];
    const from = buttons.findIndex((button) => button === document.activeElement);
    const here = from >= 0 ? from : buttons.findIndex((button) => button.getAttribute("aria-current"));
    buttons[Math.max(0, Math.min(buttons.length - 1, here + by))]?.focus();
  }

  #make(item, key) {
    const { node, update, more } = this.make(item);
    const button = el("button", { type: "button", class: "row", tabindex: "-1", onclick: () => this.open(key) }, node);
    const li = el("li", {}, button, more);
    button.addEventListener("focus", () => this.#reach(button));
    return { li, button, update };
  }

  #key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
    if (!by || !event.target.classList.contains("row")) return;
    event.preventDefault();
    this.step(by);
  }

  #reach(button) {
    for (const each of this.node.querySelectorAll('.row[tabindex="0"]')) each.tabIndex = -1;
    button.tabIndex = 0;
  }

  #keepOneReachable() {
    if (!this.node.querySelector('.row[tabindex="0"]')) {
      const first = this.node.querySelector(".row");
      if (first) first.tabIndex = 0;
    }
  }
}
