// The live page: joins the link, the picture and what shows it.

import { Bar } from "./bar.js";
import { Dead } from "./dead.js";
import { Deeds } from "./deeds.js";
import { Detail } from "./detail.js";
import { at, el, soon } from "./dom.js";
import { help, listen } from "./keyboard.js";
import { Keys } from "./keys.js";
import { Link } from "./link.js";
import { Messages } from "./messages.js";
import { Peers } from "./peers.js";
import { Picture } from "./picture.js";
import { PulseStrip } from "./pulse.js";
import { Queues } from "./queues.js";
import { Tabs } from "./tabs.js";
import { Tasks } from "./tasks.js";

const TOAST_MS = 5000;

const link = new Link();
const picture = new Picture(link);
const deeds = new Deeds(picture, link, { open, toast });
const bar = new Bar(picture, link, open);
const strip = new PulseStrip(picture, at("pulse"));
const peers = new Peers(picture, at("peers"), open);
const queues = new Queues(picture, at("queues"), showQueue);
const tasks = new Tasks(picture, open);
const views = [tasks, new Messages(picture, open), new Dead(picture, open, deeds), new Keys(picture, open, deeds)];
const beside = { name: "peers", label: "Peers", isBeside: true, tools: [], draw() {} }; // on small windows
const tabs = new Tabs(document.querySelector(".tabs"), document.querySelector(".tools"), [...views, beside]);
const detail = new Detail(at("detail"), { picture, link, deeds, open }, { shut });

function open(kind, key) {
  detail.open(kind, key);
  if (tabs.view.name === `${kind}s`) tabs.view.list.choose(key);
}

function shut() {
  tabs.view.list?.focus();
  tabs.view.list?.choose(null);
}

function showQueue(address) {
  tabs.show(tasks);
  tasks.find(address);
}

function toast(text, tone = "") {
  const node = el("p", { class: `toast ${tone}` }, text);
  at("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}

function draw() {
  tabs.draw();
  peers.draw();
  queues.draw();
  detail.draw();
  bar.draw();
}

function drawWithPulse() {
  strip.draw();
  draw();
}

picture.addEventListener("change", ({ detail: changed }) => {
  if (changed.has("all")) bar.ready();
  soon(changed.has("pulse") ? drawWithPulse : draw);
});
link.addEventListener("open", () => detail.again());
link.addEventListener("heard", ({ detail: told }) => detail.heard(told));

// The network is back, or the person is, perhaps signed in by now.
for (const [target, name] of [[window, "online"], [document, "visibilitychange"]]) {
  target.addEventListener(name, () => document.hidden || link.isOpen || link.start());
}

at("new-task").addEventListener("click", () => deeds.submit());
at("new-message").addEventListener("click", () => deeds.send());
at("help").addEventListener("click", help);
listen({
  n: () => at("new-task").click(),
  m: () => at("new-message").click(),
  j: () => tabs.view.list?.step(1),
  k: () => tabs.view.list?.step(-1),
  "/": () => tabs.view.search?.focus(),
  "?": help,
  Escape: () => detail.close(),
  ...Object.fromEntries(views.map((view, place) => [String(place + 1), () => tabs.show(view)])),
});

tabs.show(tasks);
link.start();
