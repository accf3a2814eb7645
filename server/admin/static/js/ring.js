// The ring of 65,536 slots: 256 spokes of 16 cells, each cell 16 neighbouring slots in the
// colour of the node that owns most of them. Slot 0 is at the top, numbers rise clockwise.

import { el, setText, syncChildren } from "./dom.js";
import { percent, whole } from "./format.js";

const SLOTS = 65536;
const SPOKES = 256;
const TRACKS = 16;
const PER_CELL = SLOTS / SPOKES / TRACKS;
const SIZE = 600;
const OUTER = 296;
const INNER = 142;

export function ring(store, client) {
  const canvas = el("canvas", { width: SIZE, height: SIZE, role: "img", "aria-label": "Ring of slots" });
  const legend = el("ul", { class: "legend" });
  const element = el(
    "section",
    { class: "card" },
    el("header", {}, el("h2", {}, "Ring of slots"), el("span", { class: "note" }, "who owns what")),
    el("div", { class: "ring" }, canvas, legend),
  );
  let shown = null; // {digest, owners, counts, cells}
  let asking = false;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  async function update() {
    const digest = store.live?.digest;
    if (digest === undefined || asking || shown?.digest === digest) return;
    asking = true;
    try {
      const answer = await client.get("cluster/ring");
      shown = { ...answer, cells: await majority(answer) };
      draw();
    } catch {
      // the next answer tries again
    } finally {
      asking = false;
    }
  }

  function draw() {
    if (shown === null || !canvas.isConnected) return;
    paint(canvas, shown, store);
    const told = shown.owners.map((node, index) => `${node} ${percent(shown.counts[index], SLOTS)}`).join(", ");
    canvas.setAttribute("aria-label", `Ring of slots: ${told || "no owner"}`);
    const create = () => el("li", {}, el("span", { class: "swatch" }), el("span"), " ", el("span", { class: "quiet" }));
    const show = (item, [node, count]) => {
      item.children[0].style.setProperty("--swatch", store.colour(node));
      setText(item.children[1], node);
      setText(item.children[2], percent(count, SLOTS));
    };
    const rows = shown.owners.map((node, index) => [node, shown.counts[index]]);
    syncChildren(legend, rows, ([node]) => node, create, show);
  }

  return { element, update, draw };
}

/** The owner (its position) of most slots of each cell. */
async function majority({ slots_z: packed }) {
  if (!packed) return null;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const slots = new Uint8Array(await new Response(stream).arrayBuffer());
  const cells = new Uint8Array(SLOTS / PER_CELL);
  for (let cell = 0; cell < cells.length; cell += 1) {
    const votes = new Uint16Array(256);
    let best = slots[cell * PER_CELL];
    for (let slot = cell * PER_CELL; slot < (cell + 1) * PER_CELL; slot += 1) {
      votes[slots[slot]] += 1;
      if (votes[slots[slot]] > votes[best]) best = slots[slot];
    }
    cells[cell] = best;
  }
  return cells;
}

function paint(canvas, { owners, cells }, store) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const text = style.getPropertyValue("--text");
  const quiet = style.getPropertyValue("--quiet");
  const colours = owners.map((node) => style.getPropertyValue(store.colour(node).slice(4, -1)));
  const middle = SIZE / 2;
  const thick = (OUTER - INNER) / TRACKS;
  context.clearRect(0, 0, SIZE, SIZE);
  for (let cell = 0; cells !== null && cell < cells.length; cell += 1) {
    const spoke = Math.floor(cell / TRACKS);
    const track = cell % TRACKS;
    const from = (spoke / SPOKES) * 2 * Math.PI - Math.PI / 2;
    const to = ((spoke + 0.86) / SPOKES) * 2 * Math.PI - Math.PI / 2;
    const near = INNER + track * thick;
    context.fillStyle = colours[cells[cell]] ?? quiet;
    context.beginPath();
    context.arc(middle, middle, near + thick - 1.3, from, to);
    context.arc(middle, middle, near, to, from, true);
    context.fill();
  }
  context.textAlign = "center";
  context.fillStyle = text;
  context.font = "600 52px system-ui, sans-serif";
  context.fillText(whole(owners.length ? SLOTS : 0), middle, middle + 6);
  context.fillStyle = quiet;
  context.font = "28px system-ui, sans-serif";
  context.fillText(owners.length === 1 ? "slots, 1 owner" : `slots, ${owners.length} owners`, middle, middle + 48);
}
