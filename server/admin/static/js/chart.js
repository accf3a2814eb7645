// A small chart of the last five minutes: stacked areas where nodes add up, lines where they
// do not. Drawn as SVG, so that it follows the colour scheme by itself.

import { el, setText, svg } from "./dom.js";
import { timeOfDay } from "./format.js";

const WIDTH = 400;
const HEIGHT = 132;
const LEFT = 40;
const BOTTOM = 16;
const TOP = 6;
const SPAN_S = 300;
const BRIDGE_S = 3; // a sample stands for the seconds after it until the next, at most these

/** `spec`: {title, field, stacked, unit(value) -> text, axis(value) -> text, least} */
export function chart(spec, store) {
  const now = el("span", { class: "now" });
  const plot = svg("g");
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, plot, cursor);
  const tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const frame = el("div", { class: "plot" }, drawing, tip);
  const element = el("section", { class: "card chart" }, el("header", {}, el("h3", {}, spec.title), now), frame);
  let drawn = null;
  let width = WIDTH;

  function update() {
    if (store.live === null) return;
    width = Math.max(200, frame.clientWidth - 33 || WIDTH);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawn = shape(store, spec);
    paint(plot, drawn, spec, store, width);
    const text = spec.unit(drawn.present);
    setText(now, text);
    drawing.setAttribute("aria-label", `${spec.title}, last five minutes, now ${text}`);
  }

  drawing.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  });
  drawing.addEventListener("pointermove", (event) => {
    if (drawn === null) return;
    const box = drawing.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const index = Math.round(((x - LEFT) / (width - LEFT)) * SPAN_S);
    if (index < 0 || index > SPAN_S) return;
    const at = LEFT + (index / SPAN_S) * (width - LEFT);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
    const lines = drawn.nodes
      .filter((node) => node.values[index] !== null)
      .map((node) =>
        el("p", {}, el("span", {}, el("span", { class: "swatch", vars: { "--swatch": store.colour(node.name) } }), node.name), spec.unit(node.values[index])),
      );
    tip.replaceChildren(el("p", { class: "quiet" }, timeOfDay((drawn.start + index) * 1000)), ...lines);
    tip.hidden = false;
    const left = 17 + (at / width) * box.width;
    tip.style.left = left > box.width / 2 ? "" : `${left + 12}px`;
    tip.style.right = left > box.width / 2 ? `${box.width + 34 - left + 12}px` : "";
  });

  return { element, update };
}

/** One value a second and node; null where the node was not there. */
function shape(store, spec) {
  const end = Math.floor(store.live.wall_ms / 1000) - 1;
  const start = end - SPAN_S;
  const nodes = [...store.series.keys()].sort().map((name) => {
    const samples = store.series.get(name);
    const values = [];
    let last = null;
    let age = Infinity;
    for (let second = start - BRIDGE_S; second <= end; second += 1) {
      const sample = samples.get(second);
      age = sample === undefined ? age + 1 : 0;
      if (sample !== undefined) last = sample[spec.field];
      if (second >= start) values.push(age <= BRIDGE_S ? last : null);
    }
    return { name, values };
  });
  const reports = store.live.nodes.map((node) => node.report).filter(Boolean);
  const latest = reports.map((report) => report[spec.field] ?? report.samples.at(-1)?.[spec.field] ?? 0);
  const present = spec.stacked ? latest.reduce((sum, value) => sum + value, 0) : Math.max(0, ...latest);
  return { nodes, start, present };
}

function paint(plot, { nodes, start }, spec, store, width) {
  const sums = new Array(SPAN_S + 1).fill(0);
  let top = spec.least;
  for (let index = 0; index <= SPAN_S; index += 1) {
    let sum = 0;
    for (const node of nodes) sum = spec.stacked ? sum + (node.values[index] ?? 0) : Math.max(sum, node.values[index] ?? 0);
    top = Math.max(top, sum);
  }
  top = nice(top);
  const x = (index) => (LEFT + (index / SPAN_S) * (width - LEFT)).toFixed(1);
  const y = (value) => (HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: width, y1: y(top * share), y2: y(top * share) }));
    parts.push(svg("text", { class: "axis", x: LEFT - 6, y: Number(y(top * share)) + 4, "text-anchor": "end" }, spec.axis(top * share)));
  }
  for (const [index, text] of [[0, "5 min ago"], [SPAN_S, "now"]]) {
    parts.push(svg("text", { class: "axis", x: x(index), y: HEIGHT - 2, "text-anchor": index ? "end" : "start" }, text));
  }
  for (const node of nodes) parts.push(...(spec.stacked ? area(node, sums, x, y, store) : stroke(node, x, y, store)));
  plot.replaceChildren(...parts);
}

function area(node, sums, x, y, store) {
  const out = [];
  for (const [from, to] of runs(node.values)) {
    const upper = [];
    const lower = [];
    for (let index = from; index <= to; index += 1) {
      lower.unshift(`${x(index)},${y(sums[index])}`);
      upper.push(`${x(index)},${y(sums[index] + node.values[index])}`);
    }
    out.push(svg("polygon", { class: "area", points: [...upper, ...lower].join(" "), vars: { fill: store.colour(node.name) } }));
  }
  node.values.forEach((value, index) => (sums[index] += value ?? 0));
  return out;
}

function stroke(node, x, y, store) {
  return runs(node.values).map(([from, to]) => {
    const points = [];
    for (let index = from; index <= to; index += 1) points.push(`${x(index)},${y(node.values[index])}`);
    return svg("polyline", { class: "stroke", points: points.join(" "), vars: { stroke: store.colour(node.name) } });
  });
}

/** Stretches without a null, as [first, last]. */
function runs(values) {
  const out = [];
  let from = -1;
  values.forEach((value, index) => {
    if (value !== null && from < 0) from = index;
    if ((value === null || index === values.length - 1) && from >= 0) {
      out.push([from, value === null ? index - 1 : index]);
      from = -1;
    }
  });
  return out;
}

/** The next of 1, 2, 5 times a power of ten. */
function nice(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value * 1.02) ?? 10 * unit;
}
