// Making and updating elements. Names and values only ever become text nodes or properties,
// never markup, and without the characters that would hide or turn round the words beside them.

const SVG = "http://www.w3.org/2000/svg";
// As LINE_PATTERN of server/texts.py, but for the two that `foreign` sets.
const RUDE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2067\u206a-\u206f\ufeff\ufff0-\ufffb\ufffe\uffff\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;
const escape = (char) => `\\u${char.codePointAt(0).toString(16).padStart(4, "0")}`;

/** A text without control and format characters: they stand in it as `\u202e`. */
const escaped = (text) => String(text).replace(RUDE, escape);

/** A text of somebody else's as a part of a sentence: its direction is its own affair. */
export const foreign = (text) => `\u2068${escaped(text).replace(/[\u2068\u2069]/g, escape)}\u2069`;

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name === "class" ? "class" : name, value === true ? "" : escaped(value));
  }
  const shown = children.flat().filter((child) => child !== null && child !== undefined);
  element.append(...shown.map((child) => (child instanceof Node ? child : escaped(child))));
  return element;
}

/** An HTML element: `el("p", {class: "note"}, "text", child)`; strings become text. */
export const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);

/** The same for SVG. */
export const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

/** Set text only if it differs, so that selections and screen readers are left in peace. */
export function setText(element, text) {
  const wanted = escaped(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Set or remove an attribute only if it differs. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== escaped(value)) element.setAttribute(name, escaped(value));
}

/** Keep one child of `parent` for each item, by key and in order; elements that stay are kept. */
export function syncChildren(parent, items, keyOf, create, update) {
  const have = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = have.get(key);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = key;
    }
    have.delete(key);
    update?.(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of have.values()) child.remove();
}

/** A table whose columns are `{title, num, head, class, render(row, cell)}`; returns `{element, update}`. */
export function table(caption, columns, keyOf, rowClass) {
  const classOf = (column) => column.class || (column.num && "num");
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col", class: classOf(column) }, column.title)));
  const body = el("tbody");
  const element = el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, head), body),
  );
  const create = () =>
    el("tr", {}, columns.map((column) => el(column.head ? "th" : "td", { class: classOf(column), scope: column.head && "row" })));
  const update = (row, item) => {
    if (rowClass) setAttribute(row, "class", rowClass(item) || null);
    columns.forEach((column, index) => {
      const cell = row.children[index];
      const content = column.render(item, cell);
      if (content !== undefined) setText(cell, content ?? "");
    });
  };
  return { element, update: (rows) => syncChildren(body, rows, keyOf, create, update) };
}
