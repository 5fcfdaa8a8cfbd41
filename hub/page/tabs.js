// The tabs above the list: one view is shown at a time.

import { at, el, say, set } from "./dom.js";

export class Tabs {
  /** A view has a `name`, a `label` and perhaps `more` of it, a `count`, `tools`, a `list`, `draw`, and `isAllowed`. */
  constructor(node, tools, views) {
    this.tools = tools;
    this.view = views[0];
    this.tabs = views.map((view) => this.#tab(view));
    node.append(...this.tabs.map((tab) => tab.node));
    node.addEventListener("keydown", (event) => this.#key(event));
  }

  show(view) {
    if (view.isAllowed === false) return;
    this.view = view;
    document.body.dataset.view = view.name;
    this.tools.replaceChildren(...view.tools);
    if (view.list) at("list").replaceChildren(view.list.whole);
    this.draw();
  }

  draw() {
    for (const { view, node, number } of this.tabs) {
      const isShown = view === this.view;
      set(node, "aria-selected", String(isShown));
      node.tabIndex = isShown ? 0 : -1;
      node.hidden = view.isAllowed === false;
      say(number, view.count ? String(view.count) : "");
    }
    this.view.draw();
  }

  #tab(view) {
    const number = el("span", { class: "number" });
    const more = view.more && el("span", { class: "more" }, view.more);
    const props = { type: "button", role: "tab", class: view.isBeside ? "tab beside" : "tab", "aria-controls": "list" };
    return { view, number, node: el("button", { ...props, onclick: () => this.show(view) }, view.label, more, " ", number) };
  }

  #key(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const shown = this.tabs.filter(({ node }) => node.offsetParent);
    const next = shown[(shown.findIndex(({ node }) => node === document.activeElement) + by + shown.length) % shown.length];
    this.show(next.view);
    next.node.focus();
  }
}
