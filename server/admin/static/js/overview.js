// The first page: figures, nodes, ring, charts, what happened.

import { chart } from "./chart.js";
import { el, setAttribute, setText, syncChildren, table } from "./dom.js";
import { duration, mebibytes, millis, percent, short, timeOfDay, whole } from "./format.js";
import { ring } from "./ring.js";

const SLOTS = 65536;
const CHARTS = [
  { title: "Sessions", field: "sessions", stacked: true, unit: whole, axis: short, least: 4 },
  { title: "Activations", field: "activations", stacked: true, unit: whole, axis: short, least: 4 },
  { title: "Heartbeats per second", field: "heartbeats_per_s", stacked: true, unit: whole, axis: short, least: 4 },
  { title: "Turns per second", field: "turns_per_s", stacked: true, unit: whole, axis: short, least: 4 },
  { title: "Presences sent per second", field: "differences_per_s", stacked: true, unit: whole, axis: short, least: 4 },
  { title: "Players watched", field: "watched", stacked: true, unit: whole, axis: short, least: 4 },
  { title: "Dirty age", field: "dirty_age_s", stacked: false, unit: (v) => `${v.toFixed(2)} s`, axis: (v) => `${short(v)} s`, least: 1 },
  { title: "Loop lag", field: "lag_ms", stacked: false, unit: millis, axis: (v) => `${short(v)} ms`, least: 5 },
];
const LAG_WARN_MS = 50;
const LAG_BAD_MS = 250;
const DIRTY_WARN_S = 3;
const DIRTY_BAD_S = 10;

const level = (value, warn, bad) => (value >= bad ? "bad" : value >= warn ? "warn" : "");

/** What a node's row says of it: [word, level, title]. */
export function stateOf(node, missing) {
  if (node.gone) return [`${node.how} ${duration(node.ago_s)} ago`, node.how === "stopped" ? "" : "bad", ""];
  if (missing.has(node.node)) return ["no answer", "bad", "it is in the view but did not answer in time"];
  if (node.suspect) return ["suspect", "warn", "gossip has not reached it for a while"];
  if (node.report?.not_ready) return [node.state === "up" ? "not ready" : node.state, "warn", node.report.not_ready];
  if (node.report?.troubles?.length) return [node.state, "warn", node.report.troubles.map((trouble) => trouble.text).join("; ")];
  return [node.state, node.state === "up" ? "good" : "warn", ""];
}

export const overview = {
  id: "overview",
  title: "Overview",
  order: 0,
  render(root, { store, client, poll }) {
    const tiles = figures();
    const nodes = nodeTable(store);
    const circle = ring(store, client);
    const charts = CHARTS.map((spec) => chart(spec, store));
    const happened = events(store);
    const graphs = el("div", { class: "charts" }, charts.map((one) => one.element));
    const left = el("div", { class: "stack" }, nodes.element, happened.element);
    root.append(tiles.element, el("div", { class: "split" }, left, circle.element), graphs);
    let drawnAt = 0;
    const update = () => {
      if (store.live === null) return;
      tiles.update(store.live);
      nodes.update(store.live);
      circle.update();
      happened.update();
      const second = Math.floor(store.live.wall_ms / 1000);
      if (second !== drawnAt) for (const one of charts) one.update();
      drawnAt = second;
    };
    poll.onChange(update);
    circle.draw();
  },
};

function figures() {
  const names = { nodes: "Nodes up", sessions: "Sessions", activations: "Activations", beats: "Heartbeats / s", dirty: "Oldest unsaved change", lag: "Worst loop lag" };
  const cells = Object.fromEntries(Object.keys(names).map((key) => [key, el("dd", {}, "–")]));
  const boxes = Object.fromEntries(
    Object.entries(names).map(([key, name]) => [key, el("div", { class: "card tile" }, el("dt", {}, name), cells[key])]),
  );
  const element = el("dl", { class: "tiles" }, Object.values(boxes));
  element.style.margin = "0";
  const update = (live) => {
    const reports = live.nodes.map((node) => node.report).filter(Boolean);
    const sum = (pick) => reports.reduce((total, report) => total + pick(report), 0);
    const most = (pick) => Math.max(0, ...reports.map(pick));
    const up = live.nodes.filter((node) => node.state === "up" && node.report && !node.report.not_ready).length;
    const all = live.nodes.length + live.gone.length;
    setText(cells.nodes, `${up} of ${all}`);
    setAttribute(boxes.nodes, "data-level", up < all ? "warn" : null);
    total(cells.sessions, sum((report) => report.sessions), live.missing);
    total(cells.activations, sum((report) => report.activations), live.missing);
    total(cells.beats, sum((report) => report.samples.at(-1)?.heartbeats_per_s ?? 0), live.missing);
    const age = most((report) => report.dirty_age_s);
    setText(cells.dirty, `${age.toFixed(2)} s`);
    setAttribute(boxes.dirty, "data-level", level(age, DIRTY_WARN_S, DIRTY_BAD_S) || null);
    const lag = most((report) => report.lag_ms);
    setText(cells.lag, millis(lag));
    setAttribute(boxes.lag, "data-level", level(lag, LAG_WARN_MS, LAG_BAD_MS) || null);
  };
  return { element, update };
}

/** A sum over the nodes; says so where some are missing from it. */
function total(cell, value, missing) {
  if (cell.childElementCount === 0) cell.replaceChildren(el("span"), el("small"));
  setText(cell.children[0], whole(value));
  setText(cell.children[1], missing.length ? `without ${missing.length === 1 ? missing[0] : `${missing.length} nodes`}` : "");
}

function nodeTable(store) {
  const told = (pick) => (node) => (node.report ? pick(node.report, node) : "–");
  const marked = (cell, value, warn, bad) => setAttribute(cell, "class", `num ${level(value, warn, bad) && `level-${level(value, warn, bad)}`}`.trim());
  const columns = [
    { title: "Node", head: true, render: (node, cell) => name(node, cell, store) },
    { title: "State", render: (node, cell) => pill(cell, stateOf(node, new Set(store.live.missing))) },
    { title: "Sessions", num: true, render: told((report) => whole(report.sessions)) },
    { title: "Activations", num: true, render: told((report) => whole(report.activations)) },
    { title: "To move", num: true, render: told((report) => whole(report.moves?.misplaced)) },
    {
      title: "Loop lag", num: true, render: (node, cell) => {
        const lag = node.report?.lag_ms ?? node.lag_ms;
        marked(cell, lag ?? 0, LAG_WARN_MS, LAG_BAD_MS);
        return node.gone ? "–" : millis(lag);
      },
    },
    {
      title: "Dirty", num: true, render: (node, cell) => {
        marked(cell, node.report?.dirty_age_s ?? 0, DIRTY_WARN_S, DIRTY_BAD_S);
        return node.report ? `${whole(node.report.dirty)} · ${node.report.dirty_age_s.toFixed(1)} s` : "–";
      },
    },
    { title: "Slots", num: true, render: (node, cell) => slots(node, cell, store) },
    { title: "Memory", num: true, render: told((report) => mebibytes(report.rss_bytes)) },
    { title: "Generation", num: true, render: (node) => (node.gone ? "–" : whole(node.generation ?? 0)) },
    { title: "Up for", num: true, render: told((report) => duration(report.uptime_s)) },
  ];
  const { element, update } = table("Nodes", columns, (node) => node.node, (node) => node.gone && "gone");
  const missing = el("span", { class: "note" });
  const card = el("section", { class: "card" }, el("header", {}, el("h2", {}, "Nodes"), missing), element);
  return {
    element: card,
    update: (live) => {
      update([...live.nodes, ...live.gone.map((node) => ({ ...node, gone: true }))].sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true })));
      setText(missing, live.missing.length ? `without the figures of ${live.missing.join(", ")}` : `as ${live.node} sees them`);
    },
  };
}

function name(node, cell, store) {
  if (cell.childElementCount === 0) {
    cell.append(el("span", { class: "swatch" }), el("span"), " ", el("span", { class: "tag", hidden: true }, "this page"));
  }
  cell.children[0].style.setProperty("--swatch", node.gone ? "" : store.colour(node.node));
  setText(cell.children[1], node.node);
  cell.children[2].hidden = node.gone || node.node !== store.live.node;
  cell.title = `run ${node.incarnation}, weight ${node.weight ?? "–"}, load ${node.load ?? "–"}, ${node.admin_url}`;
}

/** Show `[word, level, title]` as a mark in `cell`. */
export function pill(cell, [word, mark, title]) {
  if (cell.childElementCount === 0) cell.append(el("span", { class: "pill" }));
  setText(cell.firstElementChild, word);
  setAttribute(cell.firstElementChild, "data-level", mark || null);
  setAttribute(cell.firstElementChild, "title", title || null);
}

function slots(node, cell, store) {
  if (cell.childElementCount === 0) cell.append(el("span", { class: "meter" }, el("span"), el("i", { "aria-hidden": "true" }, el("b"))));
  const meter = cell.firstElementChild;
  const part = node.gone ? 0 : node.slots;
  setText(meter.children[0], node.gone ? "–" : percent(part, SLOTS));
  meter.style.setProperty("--part", `${(100 * part) / SLOTS}%`);
  meter.style.setProperty("--swatch", store.colour(node.node));
}

function events(store) {
  const list = el("ol", { class: "events", "aria-live": "polite" });
  const none = el("p", { class: "empty" }, "Nothing has changed since this page was opened.");
  const element = el("section", { class: "card" }, el("header", {}, el("h2", {}, "What happened")), none, list);
  const create = (event) => el("li", {}, el("time", {}, timeOfDay(event.at)), event.text);
  return {
    element,
    update: () => {
      none.hidden = store.events.length > 0;
      syncChildren(list, store.events, (event) => event.id, create);
    },
  };
}
