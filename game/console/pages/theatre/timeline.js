// The timeline of a match, drawn as SVG: scores over time, changes of lead, kills and medals, and a row a player.
// Marks of a kind and a side are one path, so that thousands of them cost no more than a few elements.

import { matchClock, teamClass } from "./words.js";

const CURVE = 118; // height of the scores
const STRIP = 40; // kills and medals of all
const AXIS = 22;
const PAD = 8;
const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800].map((s) => 1000 * s);

/** The class that gives a person, or a side, its colour. */
export function sideClass(summary, key) {
  if (key.startsWith("team:")) return teamClass(Number(key.slice(5)));
  const place = summary.people.findIndex((person) => person[0] === key);
  if (place < 0) return "";
  const team = summary.people[place][2];
  return team === null ? `solo-${place % 8}` : teamClass(team);
}

const SHAPES = {
  kill: (x, y, h) => `M${x} ${y - h}v${2 * h}`,
  death: (x, y, h) => `M${x - 0.55 * h} ${y - 0.55 * h}l${1.1 * h} ${1.1 * h}m0 ${-1.1 * h}l${-1.1 * h} ${1.1 * h}`,
  assist: (x, y, h) => `M${x} ${y - 0.5 * h}v${h}M${x - 0.5 * h} ${y}h${h}`,
  medal: (x, y, h) => `M${x} ${y - 0.72 * h}l${0.62 * h} ${0.72 * h}l${-0.62 * h} ${0.72 * h}l${-0.62 * h} ${-0.72 * h}z`,
  objective: (x, y, h) => `M${x - 0.5 * h} ${y - 0.5 * h}h${h}v${h}h${-h}z`,
  lead: (x, y, h) => `M${x - 0.75 * h} ${y - h}h${1.5 * h}l${-0.75 * h} ${1.3 * h}z`,
};
SHAPES.score = SHAPES.objective;

/** A mark by itself, for the legend. */
export function sample({ svg }, what, side) {
  return svg("svg", { class: `sample ${side}`, viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    svg("path", { class: `mark-${what}`, d: SHAPES[what](8, 8, 6) }));
}

/** `{element, draw(summary, end, followed), head(ms), msAt(event), laneHeight}` */
export function timeline(dom) {
  const { svg, el } = dom;
  const still = svg("g");
  const future = svg("rect", { class: "future" });
  const playhead = svg("g", { class: "playhead" }, svg("line"), svg("circle", { r: 6 }));
  const hover = svg("line", { class: "hover", visibility: "hidden" });
  const drawing = svg("svg", { "aria-hidden": "true", focusable: "false" }, hatch(svg), still, future, hover, playhead);
  const tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const element = el("div", { class: "scrub", role: "slider", tabindex: "0", "aria-label": "Match clock", "aria-valuemin": "0" }, drawing, tip);
  let width = 600;
  let height = 0;
  let end = 1;
  const x = (ms) => PAD + (Math.min(Math.max(ms, 0), end) / end) * (width - 2 * PAD);

  element.addEventListener("pointerleave", () => {
    tip.hidden = true;
    hover.setAttribute("visibility", "hidden");
  });
  element.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const at = x(msAt(event));
    for (const name of ["x1", "x2"]) hover.setAttribute(name, at);
    hover.setAttribute("visibility", "visible");
    dom.setText(tip, matchClock(msAt(event)));
    tip.hidden = false;
    tip.style.left = at > width / 2 ? "" : `${at + 10}px`;
    tip.style.right = at > width / 2 ? `${width - at + 10}px` : "";
  });

  function msAt(event) {
    const box = drawing.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left - PAD) / (width - 2 * PAD))) * end;
  }

  function draw(summary, endMs, followed) {
    width = Math.max(160, element.clientWidth);
    end = Math.max(endMs, 1000);
    const lane = summary.lanes > 24 ? 16 : 24;
    const top = CURVE + STRIP + AXIS;
    height = top + lane * summary.lanes;
    for (const [name, value] of [["viewBox", `0 0 ${width} ${height}`], ["width", width], ["height", height]]) drawing.setAttribute(name, value);
    for (const line of [hover, playhead.firstElementChild]) {
      line.setAttribute("y1", 0);
      line.setAttribute("y2", height);
    }
    playhead.lastElementChild.setAttribute("cy", CURVE + STRIP);
    future.setAttribute("y", 0);
    future.setAttribute("height", height);
    still.replaceChildren(
      ...axis(svg, x, end, width, height, CURVE + STRIP),
      ...gaps(svg, summary, x, end, height),
      ...curves(svg, summary, x, end),
      ...strip(svg, summary, x),
      ...lanes(svg, summary, x, width, top, lane, followed),
    );
    return lane;
  }

  function head(ms) {
    const at = x(ms);
    playhead.setAttribute("transform", `translate(${at.toFixed(1)} 0)`);
    future.setAttribute("x", at.toFixed(1));
    future.setAttribute("width", Math.max(0, width - at).toFixed(1));
  }

  return { element, draw, head, msAt, top: CURVE + STRIP + AXIS };
}

function hatch(svg) {
  const line = svg("path", { class: "hatch", d: "M0 8L8 0" });
  return svg("defs", {}, svg("pattern", { id: "theatre-gap", width: 8, height: 8, patternUnits: "userSpaceOnUse" }, line));
}

function axis(svg, x, end, width, height, y) {
  const most = Math.max(4, Math.floor(width / 90));
  const step = STEPS_MS.find((ms) => end / ms <= most) ?? 86400000 * Math.ceil(end / 86400000 / most);
  const out = [];
  for (let ms = 0; ms <= end; ms += step) {
    const text = step >= 86400000 ? `${ms / 86400000} d` : matchClock(ms);
    const anchor = x(ms) < 24 ? "start" : x(ms) > width - 30 ? "end" : "middle";
    out.push(svg("line", { class: "grid", x1: x(ms), x2: x(ms), y1: 0, y2: height }));
    out.push(svg("text", { class: "axis", x: anchor === "start" ? 2 : Math.min(x(ms), width - 2), y: y + 15, "text-anchor": anchor }, text));
  }
  return out;
}

function gaps(svg, summary, x, end, height) {
  return summary.gaps.map((gap) => {
    const from = x(gap.from_ms);
    const title = svg("title", {}, `events ${gap.first_seq} to ${gap.last_seq} cannot be read`);
    return svg("rect", { class: "gap", x: from, y: 0, width: Math.max(3, x(gap.to_ms ?? end) - from), height }, title);
  });
}

function curves(svg, summary, x, end) {
  const most = Math.max(1, ...summary.scores.flatMap((curve) => curve.score));
  const least = Math.min(0, ...summary.scores.flatMap((curve) => curve.score));
  const y = (score) => 14 + (CURVE - 22) * (1 - (score - least) / (most - least));
  const out = [svg("line", { class: "base", x1: 0, x2: x(end) + PAD, y1: y(0), y2: y(0) }), svg("text", { class: "axis", x: 2, y: 26 }, `${most} ${summary.measure === "kills" ? "kill" : "point"}${most === 1 ? "" : "s"}`)];
  const line = (curve, close) => {
    let d = `M${x(0).toFixed(1)} ${y(0).toFixed(1)}`;
    curve.time_ms.forEach((ms, place) => (d += `H${x(ms).toFixed(1)}V${y(curve.score[place]).toFixed(1)}`));
    return `${d}H${x(end).toFixed(1)}${close ? `V${y(0).toFixed(1)}Z` : ""}`;
  };
  for (const curve of summary.scores.slice(0, 2)) out.push(svg("path", { class: `under ${sideClass(summary, curve.side)}`, d: line(curve, true) }));
  for (const curve of [...summary.scores].reverse()) out.push(svg("path", { class: `curve ${sideClass(summary, curve.side)}`, d: line(curve, false) }));
  return out;
}

/** Paths of all marks that `pick` takes, one for each kind and side. */
function paths(svg, summary, x, pick) {
  const { marks } = summary;
  const found = new Map();
  marks.what.forEach((what, place) => {
    if (!SHAPES[what]) return;
    const at = pick(what, marks.player[place], marks.victim[place]);
    for (const { y, h, side, as = what } of at) {
      const key = `${as} ${side}`;
      found.set(key, (found.get(key) ?? "") + SHAPES[as](+x(marks.time_ms[place]).toFixed(1), y, h));
    }
  });
  const order = ["kill", "death", "assist", "score", "objective", "medal", "lead"];
  return [...found].sort(([a], [b]) => order.indexOf(a.split(" ")[0]) - order.indexOf(b.split(" ")[0]))
    .map(([key, d]) => svg("path", { class: `mark-${key}`, d }));
}

function strip(svg, summary, x) {
  const colours = summary.people.map((person) => sideClass(summary, person[0]));
  const rounds = summary.marks.what.flatMap((what, place) => (what === "round" ? [summary.marks.time_ms[place]] : []));
  const out = rounds.map((ms) => svg("line", { class: "round", x1: x(ms), x2: x(ms), y1: 0, y2: CURVE + STRIP }));
  return out.concat(paths(svg, summary, x, (what, player) => {
    const side = colours[player] ?? "";
    if (what === "kill") return [{ y: CURVE + 9, h: 6, side }];
    if (what === "medal") return [{ y: CURVE + 22, h: 5.5, side: "" }];
    if (what === "objective") return [{ y: CURVE + 34, h: 6, side }];
    if (what === "lead") return [{ y: 7, h: 6, side }];
    return [];
  }));
}

function lanes(svg, summary, x, width, top, lane, followed) {
  const out = [];
  const number = summary.people.findIndex((person) => person[0] === followed);
  for (let place = 0; place < summary.lanes; place += 1) {
    const kind = `lane${place % 2 ? " odd" : ""}${place === number ? " followed" : ""}`;
    out.push(svg("rect", { class: kind, x: 0, y: top + lane * place, width, height: lane }));
  }
  const colours = summary.people.map((person) => sideClass(summary, person[0]));
  const h = lane > 20 && width > 420 ? 7.5 : 5;
  const inLane = (place, extra) => {
    if (place < 0 || place >= summary.lanes) return [];
    const dim = number >= 0 && number < summary.lanes && place !== number ? " dim" : "";
    return [{ y: top + lane * place + lane / 2, h, side: `${colours[place]}${dim}`, ...extra }];
  };
  return out.concat(paths(svg, summary, x, (what, player, victim) => {
    if (what === "lead") return [];
    if (what === "kill") return [...inLane(player), ...(victim === player ? [] : inLane(victim, { as: "death" }))];
    return inLane(player);
  }));
}
