// What is asked for when the link opens, and after a gap: each a map by what it is known by, the oldest first.

import { textOf, WAKES } from "./words.js";

const PAGES = 12; // of peers: the hub cuts a list to what one frame holds

/** The newest tasks, and all that somebody works on. */
export async function readTasks(link, count) {
  const which = [{}, { state: "working" }, { state: "input-required" }];
  const lists = await Promise.all(which.map((each) => link.call("task.list", { count, ...each })));
  return sorted(lists.flatMap(({ tasks }) => tasks).map((each) => [each.seq, taskOf(each)]));
}

export async function readMessages(link, count) {
  const { messages } = await link.call("message.list", { count });
  return sorted(messages.map((each) => [each.seq, each]));
}

export async function readDead(link, count) {
  const { dead } = await link.call("dead.list", { count });
  return new Map(dead.reverse().map((each) => [deadKey(each), { ...each, text: titleOf(each) }]));
}

export async function readPeers(link) {
  const found = [];
  for (let page = 0; page < PAGES; page++) {
    const { peers, is_cut: isCut } = await link.call("peers", found.length ? { after: found.at(-1).address } : {});
    found.push(...peers);
    if (!isCut) break;
  }
  return new Map(found.map((each) => [each.address, peerOf(each)]));
}

/** A task as a list or `task.get` tells it, with what the feed tells of it. */
export function taskOf(facts) {
  const { body, output, report, prompt, ...rest } = facts;
  return { ...rest, title: titleOf(facts), text: report?.text ?? "", tail: "" };
}

/** A peer as a list tells it, with what the feed tells of it. */
export function peerOf(facts) {
  const { busy, slots, waiting, unread, wake, sessions } = facts;
  const all = (name) => [...new Set(sessions.flatMap((each) => each[name] ?? []))];
  return { ...facts, load: [busy, slots, waiting, unread, WAKES.indexOf(wake)], queues: all("queues"), runners: all("runner") };
}

export const deadKey = (letter) => `${letter.seq} ${letter.to}`;

export const sorted = (entries) => new Map(entries.sort(([a], [b]) => a - b));

/** What a task asks for, or a message says, in one line. */
function titleOf(facts) {
  return facts.title ?? textOf(facts.body).replace(/\s+/g, " ").trim();
}
