// What is away or wrong now, on every page: one line for each trouble, with the nodes that have it and since when.

import { el, setText, syncChildren } from "./dom.js";
import { timeOfDay } from "./format.js";

const NAMED = 4;

/** Troubles of an answer of `/live`, those of one name and node set together: `[{key, text, since, nodes}]`. */
export function troublesOf(live) {
  const found = new Map();
  for (const node of live.nodes) {
    for (const trouble of node.report?.troubles ?? []) {
      const known = found.get(trouble.name);
      if (known === undefined) found.set(trouble.name, { key: trouble.name, text: trouble.text, since: trouble.since_ms, nodes: [node.node] });
      else {
        known.nodes.push(node.node);
        if (trouble.since_ms < known.since) Object.assign(known, { since: trouble.since_ms, text: trouble.text });
      }
    }
  }
  return [...found.values()];
}

const who = (nodes) => (nodes.length > NAMED ? `${nodes.slice(0, NAMED).join(", ")} and ${nodes.length - NAMED} more` : nodes.join(", "));

/** Show the troubles of `live` in `box`, which is hidden while there is none. */
export function showTroubles(box, live) {
  const rows = troublesOf(live);
  box.hidden = rows.length === 0;
  if (box.firstElementChild === null) box.append(el("ul"));
  const create = () => el("li", {}, el("span"), " ", el("time"), el("span"));
  syncChildren(box.firstElementChild, rows, (row) => row.key, create, (item, row) => {
    setText(item.children[0], `${who(row.nodes)}, since`);
    setText(item.children[1], timeOfDay(row.since));
    setText(item.children[2], `: ${row.text}`);
  });
}
