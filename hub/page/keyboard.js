// The keys of the keyboard, and the list of them.

import { el } from "./dom.js";

const HINTS = [
  ["n", "new task"],
  ["m", "new message"],
  ["j k", "down and up in the list"],
  ["Enter", "open what is chosen"],
  ["Esc", "close"],
  ["/", "search"],
  ["1 2 3 4", "tasks, messages, dead letters, keys"],
  ["?", "this"],
];

/** Call what `keys` has for a key, unless somebody types or a dialog is open. */
export function listen(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const isTyping = event.target.matches("input, textarea, select");
    if (isTyping && event.key === "Escape") event.target.blur();
    if (isTyping || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
}

/** Show which keys there are. */
export function help() {
  const keys = el("dl", { class: "facts" }, HINTS.map(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)]));
  const close = el("form", { method: "dialog" }, el("p", { class: "ends" }, el("button", { class: "button main" }, "Close")));
  const dialog = el("dialog", { class: "dialog", "aria-label": "Keys of the keyboard", onclose: () => dialog.remove() }, el("h2", {}, "Keys"), keys, close);
  document.body.append(dialog);
  dialog.showModal();
}
