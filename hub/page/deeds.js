// What a person can do here. Each deed says how it went.

import { ask, choice, field, suggested } from "./dialog.js";
import { el } from "./dom.js";
import { many, PRIORITIES } from "./words.js";

export class Deeds {
  constructor(picture, link, { open, toast }) {
    this.picture = picture;
    this.link = link;
    this.open = open;
    this.toast = toast;
    for (const name of ["resend", "drop", "resendAll", "dropAll", "acceptKey", "rejectKey", "revokeKey"]) this[name] = this[name].bind(this);
  }

  submit(to = "") {
    const { input, list } = suggested(to || this.#firstQueue(), this.#places());
    const command = el("option", { value: "argv" }, "a command, run as it is");
    const kind = el("select", {}, el("option", { value: "prompt" }, "a prompt, in words"), command);
    const what = el("textarea", { rows: 4, required: true, autofocus: true, spellcheck: "false" });
    const priority = choice(PRIORITIES, "normal");
    const attempts = el("input", { type: "number", min: 1, max: 100, value: 1 });
    const timeout = el("input", { type: "number", min: 1, placeholder: "3600" });
    const cwd = el("input", { autocomplete: "off", spellcheck: "false", placeholder: "the agent's own" });
    const guess = () => (kind.value = this.#runs(input.value.trim()) ?? kind.value);
    input.addEventListener("change", guess);
    guess();
    const terms = el("details", {}, el("summary", {}, "Terms"), field("Priority", priority), field("Attempts", attempts), field("Timeout in seconds", timeout), field("Folder", cwd));
    return ask({
      title: "New task",
      agree: "Submit",
      fields: [field("To", input, "a queue or an agent"), list, field("It is", kind), field("What to do", what, "Ctrl+Enter submits"), terms],
      send: async () => {
        const job = kind.value === "argv" ? { argv: words(what.value) } : { prompt: what.value };
        if (timeout.value) job.timeout_s = Number(timeout.value);
        if (cwd.value) job.cwd = cwd.value;
        const options = { priority: priority.value, ...(attempts.value > 1 ? { max_attempts: Number(attempts.value) } : {}) };
        const told = await this.link.say("submit", { to: input.value.trim(), ...job, options });
        this.toast(`Task ${told.seq} is stored`);
        this.open("task", told.seq);
        return told.seq;
      },
    });
  }

  send(to = "", reply = null) {
    const { input, list } = suggested(to, [...this.picture.peers.keys(), "channel/announcements", "channel/status", "*"]);
    const text = el("textarea", { rows: 4, required: true, autofocus: Boolean(to) });
    const priority = choice(PRIORITIES, "normal");
    return ask({
      title: reply ? `Reply to message ${reply}` : "New message",
      agree: "Send",
      fields: [field("To", input, "a peer, a channel, or * for every matrix"), list, field("Message", text, "Ctrl+Enter sends"), field("Priority", priority)],
      send: async () => {
        const options = { priority: priority.value, ...(reply ? { reply_to: reply } : {}) };
        const told = await this.link.say("send", { to: input.value.trim(), content: text.value, options });
        this.toast(`Message ${told.seq} is stored`);
        return told.seq;
      },
    });
  }

  answer(seq, text) {
    return this.#do("task.answer", { seq, text }, `Task ${seq} goes on`);
  }

  cancel(seq) {
    return this.#do("task.cancel", { seq }, (told) => (told.state === "canceled" ? `Task ${seq} is canceled` : `Task ${seq} is being stopped`));
  }

  retry(seq) {
    return this.#do("task.retry", { seq }, `Task ${seq} is tried again`);
  }

  markRead(seq) {
    return this.#do("inbox.read", { seqs: [seq] }, `Message ${seq} is read`);
  }

  resend(letter) {
    if (letter.kind) return this.retry(letter.seq);
    return this.#do("dead.resend", { seqs: [letter.seq] }, ({ resent }) => `Message ${letter.seq} is sent again as ${resent.map((each) => each.resent_seq).join(", ")}`);
  }

  drop(letter) {
    return this.#do("dead.drop", { seqs: [letter.seq] }, `${letter.seq} is off the list`);
  }

  resendAll(letters) {
    const seqs = unique(letters.filter((each) => !each.kind));
    const tasks = unique(letters.filter((each) => each.kind));
    return this.#sure(`Send ${many(seqs.length, "message")} again, and retry ${many(tasks.length, "task")}?`, "Send again", "main", async () => {
      if (seqs.length) await this.link.call("dead.resend", { seqs });
      for (const seq of tasks) await this.link.call("task.retry", { seq });
      this.toast("All of them are on their way again");
    });
  }

  dropAll(letters) {
    const seqs = unique(letters);
    return this.#sure(`Drop ${many(seqs.length, "dead letter")}? They stay in the log, and off this list.`, "Drop", "bad", async () => {
      await this.link.call("dead.drop", { seqs });
      this.toast(`${many(seqs.length, "dead letter")} dropped`);
    });
  }

  acceptKey(key) {
    const { input, list } = suggested("", [...this.picture.peers.keys()]);
    return ask({
      title: "Accept this key",
      agree: "Accept",
      fields: [el("p", {}, "Compare the fingerprint with the one on the other machine: ", el("code", {}, key.fingerprint)), field("It belongs to", input, "agent/NAME, matrix/NAME or operator/NAME"), list],
      send: async () => {
        await this.link.call("keys.accept", { address: input.value.trim(), public_key: key.public_key });
        this.toast(`${input.value.trim()} is let in`);
        await this.picture.readKeys();
      },
    });
  }

  rejectKey(key) {
    return this.#do("keys.reject", { public_key: key.public_key }, "It is not let in").then(() => this.picture.readKeys());
  }

  revokeKey(key) {
    const what = key.what === "invitation" ? `the invitation of ${key.address}` : `the key ${key.fingerprint} of ${key.address}`;
    return this.#sure(`Revoke ${what}? Its sessions end at once, and what they held goes to others.`, "Revoke", "bad", async () => {
      await this.link.call("keys.revoke", { public_key: key.public_key });
      this.toast(`Revoked ${what}`);
      await this.picture.readKeys();
    });
  }

  #sure(title, agree, tone, send) {
    return ask({ title, agree, tone, fields: [], send });
  }

  async #do(method, params, said) {
    try {
      const told = await this.link.call(method, params);
      this.toast(typeof said === "function" ? said(told) : said);
      return told;
    } catch (refusal) {
      this.toast(refusal.message, "bad");
      return null;
    }
  }

  #firstQueue() {
    const served = [...this.picture.peers.values()].filter((peer) => peer.state !== "offline").flatMap((peer) => peer.queues ?? []);
    return served[0] ?? "";
  }

  /** What the agents behind an address run, where they all say the same. */
  #runs(to) {
    const serving = [...this.picture.peers.values()].filter((peer) => peer.address === to || peer.queues?.includes(to));
    const kinds = new Set(serving.flatMap((peer) => peer.runners ?? []).map((runner) => (runner === "exec" ? "argv" : "prompt")));
    return kinds.size === 1 ? [...kinds][0] : null;
  }

  #places() {
    const peers = [...this.picture.peers.values()];
    return [...new Set([...peers.flatMap((peer) => peer.queues ?? []), ...this.picture.lines.keys(), ...peers.map((peer) => peer.address).filter((each) => each.startsWith("agent/"))])];
  }
}

const unique = (letters) => [...new Set(letters.map((each) => each.seq))];

/** Split a command as a shell would, without its variables and patterns. */
export function words(text) {
  const found = [];
  let word = null;
  let quote = "";
  for (let place = 0; place < text.length; place++) {
    const char = text[place];
    if (quote) {
      if (char === quote) quote = "";
      else if (char === "\\" && quote === '"' && '"\\$`'.includes(text[place + 1])) word += text[++place];
      else word += char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= "";
    } else if (/\s/.test(char)) {
      if (word !== null) found.push(word);
      word = null;
    } else {
      word = (word ?? "") + (char === "\\" && place + 1 < text.length ? text[++place] : char);
    }
  }
  if (quote) throw new Error(`a quote (${quote}) is not closed`);
  return word === null ? found : [...found, word];
}
