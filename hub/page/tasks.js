// The list of tasks.

import { el, say, set } from "./dom.js";
import { List } from "./list.js";
import { ago, isHeld, isOver, STATES, toneOf, wordOf } from "./words.js";

const FILTERS = [["all", "all"], ["asks", "asks"], ["working", "working"], ["waiting", "waiting"], ["done", "done"], ["failed", "failed"]];

export class Tasks {
  name = "tasks";
  label = "Tasks";
  filter = "all";
  text = "";

  constructor(picture, open) {
    this.picture = picture;
    this.list = new List({
      label: "Tasks, the newest first",
      keyOf: (task) => task.seq,
      make: () => this.#row(),
      open: (seq) => open("task", seq),
      empty: "",
    });
    this.chips = FILTERS.map(([name, word]) => this.#chip(name, word));
    this.search = el("input", { type: "search", class: "search", placeholder: "search  /", "aria-label": "Search the tasks", oninput: () => this.#searched() });
    this.tools = [el("div", { class: "chips", role: "group", "aria-label": "Which tasks" }, this.chips.map(({ node }) => node)), this.search];
  }

  get count() {
    let open = 0;
    for (const task of this.picture.tasks.values()) open += !isOver(task.state);
    return open;
  }

  draw() {
    const all = [...this.picture.tasks.values()].reverse();
    const counts = Object.groupBy ? Object.groupBy(all, (task) => STATES[task.state].group) : grouped(all);
    for (const { name, node, number } of this.chips) {
      say(number, name === "all" ? String(all.length) : String(counts[name]?.length ?? 0));
      set(node, "aria-pressed", String(name === this.filter));
      set(node, "data-some", name !== "all" && Boolean(counts[name]));
    }
    const shown = all.filter((task) => this.#matches(task));
    say(this.list.empty, all.length ? "No task is like that." : "No tasks yet. Press n to submit one.");
    this.list.draw(shown);
  }

  /** Show what matches a text. */
  find(text) {
    this.search.value = text;
    this.#searched();
  }

  #searched() {
    this.text = this.search.value.toLowerCase();
    this.draw();
  }

  #matches(task) {
    if (this.filter !== "all" && STATES[task.state].group !== this.filter) return false;
    return !this.text || `${task.seq} ${task.title} ${task.to} ${task.agent} ${task.from} ${task.state}`.toLowerCase().includes(this.text);
  }

  #chip(name, word) {
    const number = el("span", { class: "number" });
    const choose = () => {
      this.filter = name;
      this.draw();
    };
    return { name, number, node: el("button", { type: "button", class: `chip ${name}`, onclick: choose }, word, " ", number) };
  }

  #row() {
    const state = el("span", { class: "state" });
    const seq = el("span", { class: "seq" });
    const title = el("span", { class: "title" });
    const who = el("span", { class: "who" });
    const time = el("span", { class: "time" });
    const tail = el("span", { class: "tail" });
    const node = el("span", { class: "task" }, state, seq, title, who, time, tail);
    const update = (task) => {
      const { now } = this.picture;
      set(state, "class", `state ${toneOf(task.state)}`);
      say(state, task.is_stopping && isHeld(task.state) ? "stopping" : wordOf(task.state));
      say(seq, `#${task.seq}`);
      say(title, task.title || "(nothing that can be shown)");
      say(who, isHeld(task.state) || isOver(task.state) ? task.agent || task.to : task.to);
      say(time, ago(isHeld(task.state) || isOver(task.state) ? task.updated_ms : task.sent_ms, now));
      set(time, "title", isHeld(task.state) ? "since when it is like this" : "how long ago");
      say(tail, lineBelow(task));
      set(tail, "class", `tail ${task.state === "input-required" ? "asks" : task.state === "failed" || task.state === "dead" ? "bad" : ""}`);
      tail.hidden = !tail.textContent;
    };
    return { node, update };
  }
}

/** What stands below a task: what it asks, the end of its output, or why it waits or failed. */
function lineBelow(task) {
  if (task.state === "input-required") return task.question;
  if (task.state === "working") return task.tail.trimEnd().split("\n").at(-1).slice(-160);
  if (task.state === "blocked") return `waits for ${task.blockers?.length ?? task.blockers ?? "other"} task(s)`;
  return task.state === "completed" ? "" : task.text ?? "";
}

function grouped(all) {
  const found = {};
  for (const task of all) (found[STATES[task.state].group] ??= []).push(task);
  return found;
}
