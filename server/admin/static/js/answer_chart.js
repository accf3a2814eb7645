// An answer as a picture: lines or stacked areas over time where a column of it is one, bars otherwise. The last column
// that is a number is drawn; a text beside the time says to which line a row belongs. SVG, with its numbers in a legend.

import { isTime, named } from "./answer_table.js";
import { el, svg } from "./dom.js";
import { short, timeOfDay } from "./format.js";

const LEAST_WIDTH = 240;
const HEIGHT = 300;
const LEFT = 52;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 26;
const MOST_LINES = 8;
const MOST_BARS = 40;
const colour = (index) => `var(--node-${index % 8})`;

/** The drawing of `answer` as `view` (lines, areas or bars), `width` CSS pixels wide: so its texts have their size on
 * every screen. Null where it has nothing to draw. */
export function plot(answer, view, width) {
  const { columns, rows } = answer;
  const value = columns.findLastIndex((_, index) => rows.some((row) => typeof row[index] === "number") && rows.every((row) => row[index] === null || typeof row[index] === "number"));
  if (value < 0 || rows.length === 0) return null;
  const time = columns.findIndex((_, index) => rows.every((row) => isTime(row[index])));
  if (view === "bars" || time < 0 || rows.every((row) => row[time] === rows[0][time])) return bars(answer, value);
  const by = columns.findIndex((_, index) => index !== time && index !== value && rows.some((row) => typeof row[index] === "string"));
  return overTime(answer, [time, by, value], view === "areas", Math.max(LEAST_WIDTH, width));
}

/** Lines or areas over two moments or more. */
function overTime({ columns, rows }, [time, by, value], stacked, width) {
  const series = new Map();
  for (const row of rows) {
    const name = by < 0 ? columns[value] : named(row[by]);
    if (!series.has(name)) series.set(name, new Map());
    series.get(name).set(Date.parse(row[time]), row[value] ?? 0);
  }
  const total = (points) => [...points.values()].reduce((sum, each) => sum + each, 0);
  const ranked = [...series].sort((a, b) => total(b[1]) - total(a[1]));
  const lines = ranked.slice(0, MOST_LINES);
  const moments = [...new Set(lines.flatMap(([, points]) => [...points.keys()]))].sort((a, b) => a - b);
  const first = moments[0];
  const last = Math.max(moments.at(-1), first + 1);
  const sums = new Map(moments.map((at) => [at, 0]));
  let top = 0;
  let bottom = 0;
  for (const [, points] of lines) {
    for (const at of moments) {
      const here = points.get(at) ?? 0;
      sums.set(at, sums.get(at) + here);
      if (!stacked) top = Math.max(top, here);
      bottom = Math.min(bottom, here);
    }
  }
  if (stacked) top = Math.max(...sums.values());
  const scale = scaled(stacked ? 0 : bottom, top, width);
  const x = (at) => (LEFT + ((at - first) / (last - first)) * (width - LEFT - RIGHT)).toFixed(1);
  const below = new Map(moments.map((at) => [at, 0]));
  const shapes = lines.map(([name, points], index) => {
    if (!stacked) {
      const known = moments.filter((at) => points.has(at));
      if (known.length === 1) return svg("circle", { cx: x(known[0]), cy: scale.y(points.get(known[0])), r: 3, vars: { fill: colour(index) } }, svg("title", {}, name));
      return svg("polyline", { class: "stroke", points: known.map((at) => `${x(at)},${scale.y(points.get(at))}`).join(" "), vars: { stroke: colour(index) } }, svg("title", {}, name));
    }
    const lower = moments.map((at) => `${x(at)},${scale.y(below.get(at))}`).reverse();
    for (const at of moments) below.set(at, below.get(at) + (points.get(at) ?? 0));
    const upper = moments.map((at) => `${x(at)},${scale.y(below.get(at))}`);
    return svg("polygon", { class: "area", points: [...upper, ...lower].join(" "), vars: { fill: colour(index) } }, svg("title", {}, name));
  });
  const ticks = [first, (first + last) / 2, last].map((at, index) =>
    svg("text", { class: "axis", x: x(at), y: HEIGHT - 6, "text-anchor": ["start", "middle", "end"][index] }, timeOfDay(at)),
  );
  const names = lines.map(([name, points], index) => [name, total(points), colour(index)]);
  const rest = ranked.length > MOST_LINES ? `and ${ranked.length - MOST_LINES} more, which are not drawn` : "";
  return drawing(columns[value], width, [...scale.grid, ...shapes, ...ticks], names, rest);
}

function bars({ columns, rows }, value) {
  const some = rows.slice(0, MOST_BARS);
  // What a bar is of: its texts; where there is none, its other numbers with their names.
  const texts = columns.map((_, index) => index).filter((index) => rows.some((row) => typeof row[index] === "string"));
  const numbers = columns.map((_, index) => index).filter((index) => index !== value);
  const label = (row) => (texts.length ? texts.map((index) => named(row[index])) : numbers.map((index) => `${columns[index]} ${named(row[index])}`)).join(", ") || "all";
  const largest = Math.max(...some.map((row) => row[value] ?? 0), 1e-9);
  const list = some.map((row, index) =>
    el(
      "li", {},
      el("span", { class: "label" }, label(row)),
      el("span", { class: "bar-line" }, el("i", { vars: { "--part": `${Math.max(0, (100 * (row[value] ?? 0)) / largest)}%`, "--swatch": colour(0) } })),
      el("span", { class: "num" }, row[value] === null ? "–" : short(row[value])),
    ),
  );
  const rest = rows.length > MOST_BARS ? el("p", { class: "note" }, `and ${rows.length - MOST_BARS} more rows`) : null;
  return el("div", { class: "body" }, el("ol", { class: "bars", "aria-label": columns[value] }, list), rest);
}

function drawing(title, width, parts, names, rest) {
  const legend = names.map(([name, sum, fill]) => el("li", {}, el("span", { class: "swatch", vars: { "--swatch": fill } }), name, el("span", { class: "quiet" }, ` ${short(sum)}`)));
  return el(
    "div", { class: "body chart answer" },
    svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${title} over time: ${names.map(([name, sum]) => `${name} ${short(sum)}`).join(", ")}` }, parts),
    el("ul", { class: "legend" }, legend, rest ? el("li", { class: "quiet" }, rest) : null),
  );
}

/** A scale from `low` (0 or below) to a round number at or above `high`, with its grid. */
function scaled(low, high, width) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(high - low, 1e-9)));
  const step = [0.2, 0.5, 1, 2].map((each) => each * unit).find((each) => (high - low) / each <= 5) ?? unit;
  const from = Math.floor(low / step) * step;
  const to = Math.max(from + step, Math.ceil(high / step) * step);
  const y = (value) => (HEIGHT - BOTTOM - ((value - from) / (to - from)) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const grid = [];
  for (let value = from; value <= to + step / 2; value += step) {
    grid.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    grid.push(svg("text", { class: "axis", x: LEFT - 6, y: Number(y(value)) + 4, "text-anchor": "end" }, short(Math.round(value / step) * step)));
  }
  return { y, grid };
}
