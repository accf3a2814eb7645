// An answer as a table, and its values as people read them.

import { el, table } from "./dom.js";
import { whole } from "./format.js";

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;

export const isTime = (value) => typeof value === "string" && TIME.test(value);

/** One value of an answer as people read it. */
export function shown(value) {
  if (value === null) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? whole(value) : value.toLocaleString("en", { maximumFractionDigits: 3 });
  return isTime(value) ? value.replace(/(\.\d{3})000Z$/, "$1Z") : String(value);
}

/** One value of an answer as the name of something: there is always a text. */
export const named = (value) => (value === "" ? "(empty)" : shown(value));

/** Shows answers as tables: `show(answer)` gives the element. It stays while the columns do, so that who has scrolled
 * it, selected in it or walked to it by key is left in peace by the next answer. */
export class AnswerTable {
  #columns = "";
  #table = null;

  show({ columns, rows }) {
    if (!rows.length) return el("p", { class: "empty" }, "No rows.");
    const every = (index, holds) => rows.every((row) => row[index] === null || holds(row[index]));
    const kinds = columns.map((_, index) => (every(index, (value) => typeof value === "number") ? "num" : every(index, isTime) ? "when" : ""));
    const known = JSON.stringify([columns, kinds]);
    if (known !== this.#columns) {
      const spec = columns.map((title, index) => ({ title, class: kinds[index], render: ([, row]) => shown(row[index]) }));
      this.#table = table("Rows of the answer", spec, ([number]) => number);
      this.#columns = known;
    }
    this.#table.update(rows.map((row, number) => [number, row]));
    return this.#table.element;
  }
}
