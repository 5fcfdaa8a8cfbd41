// The live page: joins the link, the picture and what shows it.

import { Dead } from "./dead.js";
import { Deeds } from "./deeds.js";
import { Detail } from "./detail.js";
import { at, el, say, set, soon } from "./dom.js";
import { Keys } from "./keys.js";
import { Link } from "./link.js";
import { Messages } from "./messages.js";
import { Peers } from "./peers.js";
import { Picture } from "./picture.js";
import { PulseStrip } from "./pulse.js";
import { Queues } from "./queues.js";
import { Tasks } from "./tasks.js";
import { many, span } from "./words.js";

const TOAST_MS = 5000;
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

const link = new Link();
const picture = new Picture(link);
const whole = { picture, link, open, deeds: null };
const detail = new Detail(at("detail"), whole, { shut: () => (view.list?.focus(), view.list?.choose(null)) });
const deeds = (whole.deeds = new Deeds(picture, link, { open, toast }));
const strip = new PulseStrip(picture, at("pulse"));
const peers = new Peers(picture, at("peers"), open);
const queues = new Queues(picture, at("queues"), (address) => showQueue(address));
const views = [new Tasks(picture, open), new Messages(picture, open), new Dead(picture, open, deeds), new Keys(picture, open, deeds)];
const beside = { name: "peers", label: "Peers", isBeside: true, count: 0, draw() {}, tools: [] };
const tabs = [...views, beside].map(makeTab);
let view = views[0];

function makeTab(each) {
  const number = el("span", { class: "number" });
  const node = el("button", { type: "button", role: "tab", class: each.isBeside ? "tab beside" : "tab", "aria-controls": "list", onclick: () => show(each) }, each.label, each.more && el("span", { class: "more" }, each.more), " ", number);
  document.querySelector(".tabs").append(node);
  return { each, node, number };
}

document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const shown = tabs.filter(({ node }) => !node.hidden && node.offsetParent);
  const next = shown[(shown.findIndex(({ node }) => node === document.activeElement) + by + shown.length) % shown.length];
  show(next.each);
  next.node.focus();
});

function show(next) {
  view = next;
  document.body.dataset.view = next.name;
  document.querySelector(".tools").replaceChildren(...next.tools);
  if (next.list) at("list").replaceChildren(next.list.whole);
  draw();
}

function open(kind, key) {
  detail.open(kind, key);
  if ((kind === "task" && view.name === "tasks") || (kind === "message" && view.name === "messages")) view.list.choose(key);
}

function showQueue(address) {
  show(views[0]);
  views[0].search.value = address;
  views[0].search.dispatchEvent(new Event("input"));
}

function draw() {
  for (const { each, node, number } of tabs) {
    const isShown = each === view;
    set(node, "aria-selected", String(isShown));
    node.tabIndex = isShown ? 0 : -1;
    say(number, each.count ? String(each.count) : "");
    if (each.name === "keys") node.hidden = !each.isAllowed;
  }
  view.draw();
}

function drawAll() {
  draw();
  peers.draw();
  queues.draw();
  detail.draw();
  drawAsks();
}

function drawAsks() {
  const asking = [...picture.tasks.values()].filter((task) => task.state === "input-required");
  const bar = at("asks");
  if (bar.hidden && !asking.length) return;
  const shown = asking.slice(-3).map((task) => el("button", { type: "button", class: "link", onclick: () => open("task", task.seq) }, `#${task.seq}`));
  const key = asking.map((task) => task.seq).join();
  if (bar.dataset.key === key) return;
  bar.dataset.key = key;
  bar.hidden = !asking.length;
  bar.replaceChildren(asking.length === 1 ? "A task waits for an answer: " : `${many(asking.length, "task")} wait for an answer: `, ...shown.flatMap((each) => [each, " "]));
}

function drawState(state, text) {
  set(at("hub"), "class", `hub ${state}`);
  say(at("hub-text"), text);
  document.body.dataset.link = state;
  for (const [id, action, what] of [["new-task", "submit", "submit tasks"], ["new-message", "send", "send messages"]]) {
    at(id).disabled = state !== "open" || !picture.may(action);
    set(at(id), "title", state === "open" && !picture.may(action) ? `${picture.me.address} may not ${what}` : false);
  }
}

function drawGone(...children) {
  const gone = at("gone");
  gone.hidden = !children.length;
  gone.replaceChildren(...children);
}

function toast(text, tone = "") {
  const node = el("p", { class: `toast ${tone}` }, text);
  at("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}

function help() {
  const dialog = el("dialog", { class: "dialog", "aria-label": "Keys of the keyboard", onclose: () => dialog.remove() }, el("h2", {}, "Keys"), el("dl", { class: "facts" }, HINTS.map(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])), el("form", { method: "dialog" }, el("p", { class: "ends" }, el("button", { class: "button main" }, "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}

const SHORT = {
  n: () => at("new-task").disabled || deeds.submit(),
  m: () => at("new-message").disabled || deeds.send(),
  "?": help,
  "/": () => view.search?.focus(),
  j: () => view.list?.step(1),
  k: () => view.list?.step(-1),
  Escape: () => detail.close(),
  ...Object.fromEntries(views.map((each, place) => [String(place + 1), () => (each.isAllowed ?? true) && show(each)])),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isTyping = event.target.matches("input, textarea, select");
  if (isTyping && event.key === "Escape") event.target.blur();
  else if (!isTyping && SHORT[event.key]) {
    event.preventDefault();
    SHORT[event.key]();
  }
});

at("new-task").addEventListener("click", () => deeds.submit());
at("new-message").addEventListener("click", () => deeds.send());
at("help").addEventListener("click", help);

picture.addEventListener("change", ({ detail: changed }) => {
  if (changed.has("all")) {
    say(at("me"), picture.me.address);
    at("out").hidden = false;
    drawState("open", "connected");
  }
  if (changed.has("pulse") || changed.has("all")) soon(drawPulse); // and every time of day with it
  else soon(drawAll);
});
picture.addEventListener("refused", ({ detail: refusal }) => {
  drawState("shut", "refused");
  drawGone(refusal.message);
});

function drawPulse() {
  strip.draw();
  drawAll();
}

link.addEventListener("open", () => {
  drawGone();
  document.querySelector(".signed-out")?.remove();
  detail.again();
});
link.addEventListener("shut", ({ detail: wait }) => {
  drawState("shut", "the hub is gone");
  drawGone(`The hub is not there. What you see is how it was; trying again in ${span(wait)}. `, el("button", { type: "button", class: "link", onclick: () => link.start() }, "Try now"));
});
link.addEventListener("signed-out", () => {
  drawState("out", "signed out");
  say(at("me"), "");
  at("out").hidden = true;
  drawGone();
  if (document.querySelector(".signed-out")) return;
  const isUsed = location.hash === "#used";
  const words = [isUsed ? "That link was used already, or is too old. Ask for another where the hub runs, and open it here:" : "Ask for a link where the hub runs, and open it here. It signs you in once:", "Ctrl-click opens it in most terminals. This page comes back by itself when you are signed in."];
  document.querySelector(".halls").before(el("section", { class: "panel signed-out" }, el("h2", {}, "You are not signed in"), el("p", {}, words[0]), el("code", {}, "orchestra page"), el("p", { class: "hint" }, words[1])));
});
link.addEventListener("heard", ({ detail: told }) => detail.heard(told));
addEventListener("online", () => link.isOpen || link.start());
document.addEventListener("visibilitychange", () => document.hidden || link.isOpen || link.start()); // also after a sign-in elsewhere

show(view);
link.start();
