// Small drawings of the last two minutes.

import { el, say, set, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 44;
const SECONDS = [40, 120]; // from when to when the line grows to the left

/** One figure with its line: `lines` are names of classes, the first of which is filled. */
export class Chart {
  constructor({ title, unit, lines }) {
    this.title = title;
    this.figure = el("output", { class: "figure" }, "–");
    this.more = el("span", { class: "more" });
    this.top = el("span", { class: "top" });
    this.area = svg("polygon", { class: `area ${lines[0]}` });
    this.lines = lines.map((name) => svg("polyline", { class: `line ${name}` }));
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.area, ...this.lines);
    this.node = el(
      "figure",
      { class: "chart" },
      el("figcaption", {}, el("span", { class: "title" }, title), el("span", { class: "now" }, this.figure, el("span", { class: "unit" }, unit))),
      this.drawing,
      el("p", { class: "foot" }, this.more, this.top),
    );
  }

  /** Draw series of numbers, the newest last; null is a gap. */
  draw(series, { now, more = "", tell }) {
    const peak = Math.max(0, ...series.flat().filter((each) => each !== null));
    const top = ceiling(peak);
    series.forEach((values, place) => set(this.lines[place], "points", points(values, top).join(" ")));
    const filled = points(series[0], top);
    const ends = filled.length ? [`${filled.at(-1).split(",")[0]},${HEIGHT}`, `${filled[0].split(",")[0]},${HEIGHT}`] : [];
    set(this.area, "points", [...filled, ...ends].join(" "));
    say(this.figure, now);
    say(this.more, more);
    say(this.top, peak > 0 ? `peak ${tell(peak)}` : "");
    set(this.drawing, "aria-label", `${this.title}: ${now} now, at most ${tell(peak)} in the last two minutes`);
  }
}

/** The next round number, so that the line does not jump with every value. */
function ceiling(peak) {
  if (peak <= 0) return 1;
  const step = 10 ** Math.floor(Math.log10(peak));
  return [1, 2, 5, 10].map((factor) => factor * step).find((each) => each >= peak);
}

function points(values, top) {
  const seconds = Math.min(SECONDS[1], Math.max(SECONDS[0], values.length));
  const shift = seconds - values.length;
  return values
    .map((value, place) => [place + shift, value])
    .filter(([, value]) => value !== null)
    .map(([x, value]) => `${((x / (seconds - 1)) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1)}`);
}
