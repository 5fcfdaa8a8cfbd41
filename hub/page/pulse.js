// The strip of rates and latencies.

import { Chart } from "./chart.js";
import { count, many, rate, span } from "./words.js";

const COUNTED = (pulse, ...names) => names.reduce((sum, name) => sum + (pulse.counts[name] ?? 0), 0) / (pulse.span_ms / 1000);
const OVER = ["completed", "failed", "canceled", "dead"];
const quantile = (pulse, name, which) => pulse.latency_ms[name]?.[which] ?? null;
const newest = (values) => values.findLast((each) => each !== null) ?? null;

const CHARTS = [
  {
    shape: { title: "Tasks", unit: "done a second", lines: ["good", "busy"] },
    series: (pulses) => [pulses.map((each) => COUNTED(each, ...OVER)), pulses.map((each) => COUNTED(each, "submitted"))],
    now: ([done]) => rate(newest(done) ?? 0),
    more: (last) => `${rate(COUNTED(last, "submitted"))} submitted a second`,
    tell: rate,
  },
  {
    shape: { title: "Unfinished", unit: "tasks", lines: ["busy", "wait"] },
    series: (pulses) => [pulses.map((each) => each.held), pulses.map((each) => each.open)],
    now: ([, open]) => count(newest(open) ?? 0),
    more: (last) => `${count(last.held)} at work, ${count(last.open - last.held)} wait`,
    tell: count,
  },
  {
    shape: { title: "Messages", unit: "a second", lines: ["busy", "good"] },
    series: (pulses) => [pulses.map((each) => COUNTED(each, "messages")), pulses.map((each) => COUNTED(each, "receipts"))],
    now: ([sent]) => rate(newest(sent) ?? 0),
    more: (last) => `${rate(COUNTED(last, "receipts"))} receipts a second`,
    tell: rate,
  },
  latency("Task begins after", "start"),
  latency("Message confirmed after", "delivery"),
  {
    shape: { title: "This page to the hub and back", unit: "", lines: ["busy"] },
    series: (pulses) => [pulses.map((each) => each.trip)],
    now: ([trip]) => tellTrip(newest(trip)),
    more: (last) => many(last.sessions, "session"),
    tell: tellTrip,
  },
];

function latency(title, name) {
  return {
    shape: { title, unit: "", lines: ["busy", "wait"] },
    series: (pulses) => [pulses.map((each) => quantile(each, name, "p50")), pulses.map((each) => quantile(each, name, "p99"))],
    now: ([half]) => (newest(half) === null ? "–" : span(newest(half))),
    more: (last, [, most]) => (newest(most) === null ? "no sample yet" : `99 % within ${span(newest(most))}`),
    tell: span,
  };
}

function tellTrip(ms) {
  if (ms === null) return "–";
  return ms < 10 ? `${ms.toFixed(1)} ms` : span(ms);
}

export class PulseStrip {
  constructor(picture, node) {
    this.picture = picture;
    this.charts = CHARTS.map((each) => ({ ...each, chart: new Chart(each.shape) }));
    node.append(...this.charts.map(({ chart }) => chart.node));
  }

  draw() {
    const { pulses } = this.picture;
    if (!pulses.length) return;
    for (const { chart, series, now, more, tell } of this.charts) {
      const drawn = series(pulses);
      chart.draw(drawn, { now: now(drawn), more: more(pulses.at(-1), drawn), tell });
    }
  }
}
