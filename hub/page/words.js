// How numbers, times and states are said.

/** What a task's state is called, its tone (a class of page.css), and the filter it belongs to. */
export const STATES = {
  "blocked": { tone: "wait", group: "waiting" },
  "scheduled": { tone: "wait", group: "waiting" },
  "queued": { tone: "wait", group: "waiting" },
  "working": { tone: "busy", group: "working" },
  "input-required": { word: "asks", tone: "asks", group: "asks" },
  "completed": { word: "done", tone: "good", group: "done" },
  "failed": { tone: "bad", group: "failed" },
  "canceled": { tone: "off", group: "failed" },
  "dead": { tone: "bad", group: "failed" },
};

export const STAGES = ["stored", "delivered", "read", "acked"];
export const PRIORITIES = ["urgent", "high", "normal", "low"];

export const wordOf = (state) => STATES[state]?.word ?? state;
export const toneOf = (state) => STATES[state]?.tone ?? "off";
export const isOver = (state) => ["completed", "failed", "canceled", "dead"].includes(state);
export const isHeld = (state) => state === "working" || state === "input-required";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

/** A time of today as its clock, an older one with its day. */
export function when(ms) {
  const then = new Date(ms);
  const text = clock.format(then);
  return then.toDateString() === new Date().toDateString() ? text : `${day.format(then)} ${text}`;
}

export const moment = (ms) => whole.format(new Date(ms));

/** A length of time in the unit that fits. */
export function span(ms) {
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129_600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

/** How long ago; what is younger than a second is now. */
export const ago = (ms, now) => (now - ms < 1000 ? "now" : span(now - ms));

/** A count that fits into five characters. */
export function count(n) {
  if (n < 10_000) return String(n);
  return n < 1_000_000 ? `${(n / 1000).toFixed(n < 100_000 ? 1 : 0)}k` : `${(n / 1_000_000).toFixed(1)}M`;
}

export function rate(n) {
  if (n === 0) return "0";
  return n < 10 ? n.toFixed(1) : count(Math.round(n));
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

/** How a peer can be woken, in the hub's order. */
export const WAKES = ["now", "next-turn", "asking", "no"];
const WOKEN = {
  "now": "gets what is sent at once",
  "next-turn": "is told with its next turn",
  "asking": "sees what is sent when it asks",
  "no": "not connected; what is sent waits",
};
export const wokenOf = (load) => WOKEN[WAKES[load[4]]];

/** The order of names in which 2 comes before 10. */
export const byName = new Intl.Collator(undefined, { numeric: true }).compare;

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

/** What JSON holds in place of bytes, as text. */
export function textOf(body) {
  return new TextDecoder().decode(bytesOf(body));
}

export function bytesOf(body) {
  if (typeof body === "string") return new TextEncoder().encode(body);
  if (body && typeof body.base64 === "string") return Uint8Array.from(atob(body.base64), (char) => char.charCodeAt(0));
  return new Uint8Array();
}
