// What the page knows: the newest answer, five minutes of samples of every node (also of nodes
// that are gone), the colours of nodes, and what happened while it watched. All bounded.

import { troublesOf } from "./troubles.js";

const KEPT_S = 300;
const EVENTS_KEPT = 50;
const COLOURS = 8;
const NODES_KEPT = 64;

export class Store extends EventTarget {
  constructor() {
    super();
    this.live = null;
    this.ahead_ms = 0; // by how much the nodes' clocks are before this browser's
    this.series = new Map(); // node -> Map(second -> sample)
    this.events = [];
    this.gaps = true; // true: samples are missing, the history should be asked for
    this.#colours = new Map();
    this.#newest = new Map();
  }

  #colours;
  #newest; // node -> [incarnation, seq]

  /** The CSS colour of a node; the same for as long as the page is open. */
  colour(node) {
    if (!this.#colours.has(node)) this.#colours.set(node, this.#colours.size % COLOURS);
    return `var(--node-${this.#colours.get(node)})`;
  }

  /** Take in an answer of `/live`. */
  heard(answer) {
    for (const node of answer.nodes) this.colour(node.node);
    if (this.live !== null) this.#compare(this.live, answer);
    this.live = answer;
    this.ahead_ms = answer.wall_ms - Date.now();
    for (const node of answer.nodes) if (node.report) this.#samples(node.node, node.incarnation, node.report.samples);
    this.#forget(Math.floor(answer.wall_ms / 1000) - KEPT_S);
    this.dispatchEvent(new Event("change"));
  }

  /** Take in an answer of `/history`. */
  history(answer) {
    for (const row of answer.rows) for (const sample of row.samples) this.#keep(row.node, sample);
    this.gaps = false;
    this.dispatchEvent(new Event("change"));
  }

  /** Add a line to what happened. */
  note(text) {
    this.events.unshift({ id: `${Date.now()}-${Math.random()}`, at: Date.now(), text });
    this.events.length = Math.min(this.events.length, EVENTS_KEPT);
  }

  #samples(node, incarnation, samples) {
    const [run, seq] = this.#newest.get(node) ?? [incarnation, 0];
    if (samples.length > 0) {
      if (run === incarnation && seq > 0 && samples[0].seq > seq + 1) this.gaps = true;
      this.#newest.set(node, [incarnation, samples.at(-1).seq]);
    }
    for (const sample of samples) this.#keep(node, sample);
  }

  #keep(node, sample) {
    if (!this.series.has(node)) this.series.set(node, new Map());
    this.series.get(node).set(Math.floor(sample.wall_ms / 1000), sample);
  }

  #forget(before) {
    for (const [node, seconds] of this.series) {
      for (const second of seconds.keys()) if (second < before) seconds.delete(second);
      if (seconds.size === 0) this.series.delete(node);
    }
    while (this.#colours.size > NODES_KEPT) this.#colours.delete(this.#colours.keys().next().value);
  }

  #compare(before, now) {
    const was = new Map(before.nodes.map((node) => [node.node, node]));
    for (const node of now.nodes) {
      const old = was.get(node.node);
      if (old === undefined) this.note(`${node.node} joined`);
      else if (old.incarnation !== node.incarnation) this.note(`${node.node} restarted`);
      else if ((old.generation ?? 0) < (node.generation ?? 0)) this.note(`${node.node} was upgraded: it goes on in another process`);
      else if (old.state !== node.state) this.note(`${node.node} is ${node.state} (was ${old.state})`);
      was.delete(node.node);
    }
    const had = new Map(troublesOf(before).map((trouble) => [trouble.key, trouble]));
    for (const trouble of troublesOf(now)) {
      if (!had.delete(trouble.key)) this.note(`${trouble.nodes.join(", ")}: ${trouble.text}`);
    }
    for (const trouble of had.values()) this.note(`over: ${trouble.text}`);
    const how = new Map(now.gone.map((node) => [node.node, node.how]));
    for (const [name, node] of was) {
      const stopped = how.get(name) === "stopped" || node.state === "leaving";
      this.note(stopped ? `${name} stopped` : `${name} was lost`);
    }
    const silent = new Set(before.missing);
    for (const name of now.missing) if (!silent.has(name)) this.note(`${name} does not answer`);
  }
}
