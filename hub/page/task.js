// One task: what it is, what it puts out, what can be done with it.

import { facts } from "./detail.js";
import { el, say, set } from "./dom.js";
import { Output } from "./output.js";
import { Story } from "./story.js";
import { isHeld, isOver, moment, PRIORITIES, size, span, textOf, toneOf, wordOf } from "./words.js";

export class TaskDetail {
  constructor({ picture, link, deeds }, seq) {
    this.picture = picture;
    this.link = link;
    this.seq = seq;
    this.title = `Task ${seq}`;
    this.state = el("span", { class: "state" });
    this.job = el("pre", { class: "job" });
    this.facts = el("div");
    this.question = el("p", { class: "question" });
    this.answer = el("textarea", { rows: 2, required: true, maxlength: 4000, "aria-label": "Your answer" });
    this.reply = el("button", { class: "button main", type: "submit" }, "Answer");
    this.asks = el("form", { class: "ask", hidden: true, onsubmit: (event) => this.#answer(event, deeds) }, el("h3", {}, "It asks"), this.question, this.answer, this.reply);
    this.cancel = el("button", { type: "button", class: "button bad", onclick: () => deeds.cancel(seq) }, "Cancel task");
    this.retry = el("button", { type: "button", class: "button", onclick: () => deeds.retry(seq) }, "Retry");
    this.output = new Output();
    this.base = null; // what was put out before this was watched, until the feed has told the rest of it
    this.story = new Story(link, seq);
    this.fault = el("p", { class: "fault", hidden: true });
    this.node = el(
      "div",
      {},
      el("p", { class: "line" }, this.state, el("span", { class: "grow" }), this.retry, this.cancel),
      this.fault,
      this.asks,
      this.job,
      this.output.node,
      this.facts,
      this.story.node,
    );
  }

  async load() {
    try {
      const [task] = await Promise.all([this.link.call("task.get", { seq: this.seq }), this.story.load()]);
      this.task = task;
      this.shown = this.#standing(task);
      this.#show(task);
      if (!isOver(task.state)) await this.#watch();
      this.fault.hidden = true;
    } catch (refusal) {
      if (!this.link.isOpen) return;
      say(this.fault, refusal.message);
      this.fault.hidden = false;
    }
  }

  /** The picture changed: read anew what changed of this. */
  draw() {
    const now = this.picture.tasks.get(this.seq);
    if (now && this.shown && this.#standing(now) !== this.shown) {
      this.shown = this.#standing(now);
      this.load();
    }
  }

  heard(told) {
    if (told.event === "feed") this.#complete(told.progress?.find((each) => each.seq === this.seq)?.text ?? "");
    if (told.seq === this.seq && told.type === "progress") this.output.append(told.data);
    if (told.seq === this.seq && told.type === "result") this.load();
  }

  async #watch() {
    await this.link.call("task.watch", { seqs: [this.seq] });
    if (this.isWatched) return;
    this.isWatched = true;
    this.base = this.picture.tasks.get(this.seq)?.tail ?? "";
    this.output.reset(this.base, "as it comes; what was put out before is in the result");
  }

  /** The feed tells what came before this was watched, then what came since: that much is known already. */
  #complete(text) {
    if (this.base === null) return;
    const since = this.output.text.slice(this.base.length);
    if (text.length > since.length && text.endsWith(since)) this.output.reset(this.base + text, this.output.note.textContent);
    this.base = null;
  }

  #standing(task) {
    return `${task.state} ${task.attempt} ${task.question ?? ""}`;
  }

  #show(task) {
    set(this.state, "class", `state ${toneOf(task.state)}`);
    say(this.state, wordOf(task.state));
    say(this.job, task.prompt || textOf(task.body));
    const isMine = this.picture.mayManage(task.from);
    this.cancel.hidden = isOver(task.state) || !isMine;
    this.retry.hidden = !isOver(task.state) || task.state === "completed" || !isMine;
    this.asks.hidden = task.state !== "input-required";
    this.answer.disabled = this.reply.disabled = !isMine;
    set(this.asks, "title", isMine ? false : "Who sent the task may answer, and who may manage.");
    say(this.question, task.question ?? "");
    if (isOver(task.state)) this.output.reset(textOf(task.output), cutNote(task.report));
    this.output.node.hidden = !isHeld(task.state) && !this.output.text;
    this.facts.replaceChildren(el("h3", {}, "Facts"), facts(tellOf(task)));
  }

  async #answer(event, deeds) {
    event.preventDefault();
    if (await deeds.answer(this.seq, this.answer.value)) this.answer.value = "";
  }
}

function cutNote(report) {
  if (!report.is_cut) return "";
  return `of ${size(report.output_bytes)} this is the head and the tail; the whole is in ${report.output_file ?? "a file"} on the agent's machine`;
}

function tellOf(task) {
  const { report } = task;
  return [
    ["To", task.to],
    ["From", task.from],
    ["Agent", task.agent],
    ["Why", task.why || report.text],
    ["Sent", moment(task.sent_ms)],
    ["Took", report.duration_ms === undefined ? "" : span(report.duration_ms)],
    ["Exit code", report.exit_code],
    ["Attempt", task.attempt > 1 || task.max_attempts > 1 ? `${task.attempt} of ${task.max_attempts ?? 1}` : ""],
    ["Priority", PRIORITIES[task.rank] === "normal" ? "" : PRIORITIES[task.rank]],
    ["Folder", task.cwd],
    ["Depends on", task.depends_on?.map((seq) => `#${seq}`).join(", ")],
    ["Not before", task.not_before_ms ? moment(task.not_before_ms) : ""],
    ["Budget", task.budget],
    ["Cost", report.cost_usd === undefined ? "" : `$${report.cost_usd}`],
    ["Checkpoint", task.checkpoint ? `${size(task.checkpoint.bytes)} of attempt ${task.checkpoint.attempt}` : ""],
  ];
}
