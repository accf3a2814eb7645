// Questions in SQL over the columns of all nodes: asked once or again and again, shown as a table, lines, areas or bars.

import { plot } from "./answer_chart.js";
import { el, setText } from "./dom.js";
import { timeOfDay, whole } from "./format.js";

const KEPT = "garrison.questions";
const REFRESH_MS = 2000;
const TIMEOUT_S = 5;
const SPANS = [["the last minute", 60], ["the last 10 minutes", 600], ["the last hour", 3600], ["the last 6 hours", 21600], ["the last day", 86400], ["all that is held", 0]];
const VIEWS = [["table", "Table"], ["lines", "Lines"], ["areas", "Stacked areas"], ["bars", "Bars"]];

/** The person's own saved questions, [{title, sql, view}], as this browser keeps them. */
function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "[]").filter((one) => typeof one.sql === "string" && typeof one.title === "string");
  } catch {
    return [];
  }
}

/** One value of an answer as people read it. */
function shown(value) {
  if (value === null) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? whole(value) : value.toLocaleString("en", { maximumFractionDigits: 3 });
  return String(value);
}

/** How complete an answer is, in a line. */
function coverageText(coverage) {
  const parts = [`${coverage.answered} of ${coverage.nodes} nodes`, `${whole(coverage.rows_scanned)} of ${whole(coverage.rows_held)} rows scanned`];
  if (coverage.sampled) parts.push(`sampled, they stand for ${whole(coverage.stand_for)}`);
  if (coverage.from_ms) parts.push(`held from ${timeOfDay(coverage.from_ms)} to ${timeOfDay(coverage.to_ms)}`);
  if (coverage.age_ms) parts.push(`as of ${(coverage.age_ms / 1000).toFixed(1)} s ago at most`);
  if (coverage.groups_left_out) parts.push(`${whole(coverage.groups_left_out)} groups left out`);
  if (coverage.reloading) parts.push(`${coverage.reloading} load events again, ${whole(coverage.rows_missing)} rows to come`);
  if (coverage.missing.length) parts.push(`no answer from ${coverage.missing.join(", ")}`);
  return [...parts, ...coverage.troubles].join(" · ");
}

/** An answer as a file of comma-separated values. */
function csv({ columns, rows }) {
  const field = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(field).join(",")).join("\n") + "\n";
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export const questions = {
  id: "questions",
  title: "Questions",
  order: 4,
  render(root, { client, poll, href }, [asked, view]) {
    const option = ([value, text]) => el("option", { value }, text);
    const saved = el("select", { "aria-label": "Saved questions" });
    const span = el("select", { "aria-label": "Time" }, SPANS.map(([text, seconds]) => option([String(seconds), text])));
    const as = el("select", { "aria-label": "Shown as" }, VIEWS.map(option));
    const sql = el("textarea", { rows: 6, spellcheck: "false", class: "mono", "aria-label": "Question in SQL", maxlength: 8192 });
    const live = el("input", { type: "checkbox", id: "live-refresh" });
    const ask = el("button", { type: "submit", class: "primary", title: "Ctrl+Enter" }, "Ask");
    const keep = el("button", { type: "button" }, "Save");
    const forget = el("button", { type: "button", hidden: true }, "Forget");
    const file = el("button", { type: "button", disabled: true }, "CSV");
    const note = el("p", { class: "note", role: "status" });
    const wrong = el("p", { class: "wrong", role: "alert", hidden: true });
    const tables = el("ul", { class: "columns" });
    const result = el("div", { class: "result" });
    const form = el(
      "form", { class: "question" },
      el("div", { class: "bar" }, saved, keep, forget),
      sql,
      el("div", { class: "bar" }, ask, span, as, el("label", { for: "live-refresh" }, live, " live"), file),
    );
    root.append(
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Questions")), el("div", { class: "body" }, form, wrong, note)),
      el("section", { class: "card", "aria-label": "Answer" }, result),
      el("details", { class: "card" }, el("summary", {}, "Tables and columns"), tables),
    );

    let answer = null;
    let presets = [];
    let running = false;

    function fillSaved() {
      const own = kept();
      const group = (label, list, kind) =>
        list.length ? el("optgroup", { label }, list.map((one, index) => el("option", { value: `${kind}${index}` }, one.title))) : null;
      saved.replaceChildren(...[el("option", { value: "" }, "A question …"), group("Mine", own, "m"), group("Given", presets, "g")].filter(Boolean));
    }

    function chosen() {
      const list = saved.value.startsWith("m") ? kept() : presets;
      return saved.value ? list[Number(saved.value.slice(1))] : undefined;
    }

    function show() {
      if (answer === null) return;
      const chart = as.value === "table" ? null : plot(answer, as.value);
      result.replaceChildren(chart ?? table(answer));
      if (as.value !== "table" && chart === null) setText(note, `${note.textContent} · nothing to draw: a picture needs a number in the last column`);
    }

    async function run() {
      if (running || !sql.value.trim()) return;
      running = true;
      ask.disabled = true;
      const seconds = Number(span.value);
      const body = { sql: sql.value, timeout_s: TIMEOUT_S, since_ms: seconds ? Date.now() - 1000 * seconds : 0 };
      try {
        answer = await client.post("questions", body, 1000 * (TIMEOUT_S + 3));
        wrong.hidden = true;
        file.disabled = answer.rows.length === 0;
        setText(note, coverageText(answer.coverage));
        show();
        history.replaceState(null, "", href(sql.value, as.value));
      } catch (error) {
        wrong.hidden = false;
        setText(wrong, error.message);
        if (error.status === 400) live.checked = false; // anything else may pass
      } finally {
        running = false;
        ask.disabled = false;
      }
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run();
    });
    sql.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        run();
      }
    });
    as.addEventListener("change", show);
    span.addEventListener("change", run);
    live.addEventListener("change", () => poll.now());
    file.addEventListener("click", () => download("answer.csv", csv(answer)));
    saved.addEventListener("change", () => {
      const one = chosen();
      forget.hidden = !saved.value.startsWith("m");
      if (one === undefined) return;
      sql.value = one.sql;
      as.value = one.view ?? "table";
      run();
    });
    keep.addEventListener("click", () => {
      const title = prompt("Its name", chosen()?.title ?? "")?.trim().slice(0, 80);
      if (!title) return;
      const others = kept().filter((one) => one.title !== title);
      localStorage.setItem(KEPT, JSON.stringify([...others, { title, sql: sql.value, view: as.value }]));
      fillSaved();
      saved.value = `m${others.length}`;
      forget.hidden = false;
    });
    forget.addEventListener("click", () => {
      const index = Number(saved.value.slice(1));
      localStorage.setItem(KEPT, JSON.stringify(kept().filter((_, number) => number !== index)));
      forget.hidden = true;
      fillSaved();
    });

    span.value = "600";
    if (VIEWS.some(([name]) => name === view)) as.value = view;
    client.get("questions").then((found) => {
      presets = found.saved;
      fillSaved();
      tables.replaceChildren(...found.tables.map((one) => el("li", {}, el("b", {}, one.table), ` ${one.columns.map((column) => column.name).join(", ")}`)));
      if (found.unavailable) {
        wrong.hidden = false;
        setText(wrong, `No answers here: ${found.unavailable}`);
      }
      if (asked) sql.value = asked;
      else if (presets.length) {
        saved.value = "g0";
        sql.value = presets[0].sql;
        as.value = presets[0].view;
      }
      if (!found.unavailable) run();
    });
    poll.every(REFRESH_MS, async () => {
      if (live.checked) await run();
    });
  },
};

function table({ columns, rows }) {
  if (!rows.length) return el("p", { class: "empty" }, "No rows.");
  const numeric = columns.map((_, index) => rows.every((row) => row[index] === null || typeof row[index] === "number"));
  const cells = (row) => row.map((value, index) => el("td", { class: numeric[index] && "num" }, shown(value)));
  return el(
    "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows of the answer" },
    el(
      "table", {},
      el("thead", {}, el("tr", {}, columns.map((name, index) => el("th", { scope: "col", class: numeric[index] && "num" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, cells(row)))),
    ),
  );
}
