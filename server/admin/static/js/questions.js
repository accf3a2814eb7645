// Questions in SQL over the columns of all nodes: asked once or again and again, shown as a table, lines, areas or bars.

import { plot } from "./answer_chart.js";
import { AnswerTable } from "./answer_table.js";
import { el, setAttribute, setText } from "./dom.js";
import { timeOfDay, whole } from "./format.js";

const KEPT = "garrison.questions";
const REFRESH_MS = 2000;
const TIMEOUT_S = 5;
const PADDING = 33; // of the answer's card, left and right
const LASTING = [400, 401, 404]; // statuses of refusals that another try does not change
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
  render(root, { store, client, poll, href, readdress }, [asked, view, seconds]) {
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

    const rows = new AnswerTable();
    let answer = null;
    let question = null; // {sql, seconds}: what is asked again while it is live, whatever is typed meanwhile
    let running = false;
    let unanswered = false; // for a reason that may pass: it is asked again
    let presets = [];
    let begun = false;

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

    const inside = () => result.clientWidth - PADDING;

    function show() {
      if (answer === null || poll.ended) return;
      const drawn = as.value !== "table" && answer.rows.length > 0;
      const chart = drawn ? plot(answer, as.value, inside()) : null;
      const element = chart ?? rows.show(answer);
      if (result.firstElementChild !== element) result.replaceChildren(element);
      const plain = drawn && chart === null ? "nothing to draw: a picture needs a number in the last column" : "";
      setText(note, [coverageText(answer.coverage), plain].filter(Boolean).join(" · "));
      setAttribute(note, "aria-live", live.checked ? "off" : null); // nobody listens to that every two seconds
      readdress(href(question.sql, as.value, String(question.seconds)));
    }

    /** Show what went wrong; what was answered before is no answer to what is asked now. */
    function tell(text) {
      wrong.hidden = text === "";
      setText(wrong, text);
      for (const element of [note, result]) element.classList.toggle("stale", text !== "");
    }

    async function once(one) {
      const since_ms = one.seconds ? Math.round(Date.now() + store.ahead_ms - 1000 * one.seconds) : 0;
      const over = () => poll.ended || one !== question; // somebody went on meanwhile
      try {
        const found = await client.post("questions", { sql: one.sql, timeout_s: TIMEOUT_S, since_ms }, 1000 * (TIMEOUT_S + 3));
        if (over()) return;
        answer = found;
        unanswered = false;
        file.disabled = answer.rows.length === 0;
        tell("");
        show();
      } catch (error) {
        if (over()) return;
        unanswered = !LASTING.includes(error.status);
        if (error.status === 400) live.checked = false;
        tell(unanswered ? `${error.message}; asking again` : error.message);
      }
    }

    async function run() {
      if (running || question === null) return;
      running = true;
      setAttribute(ask, "aria-busy", "true");
      let one = null;
      while (one !== question && !poll.ended) await once((one = question));
      running = false;
      setAttribute(ask, "aria-busy", null);
    }

    /** Ask what stands there; what is asked already gives way to it. */
    function pose() {
      if (!sql.value.trim()) return;
      question = { sql: sql.value, seconds: Number(span.value) };
      run();
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      pose();
    });
    sql.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        pose();
      }
    });
    as.addEventListener("change", show);
    span.addEventListener("change", pose);
    live.addEventListener("change", () => {
      if (live.checked && question === null) pose();
      poll.now();
    });
    let drawnFor = inside();
    new ResizeObserver(() => {
      if (inside() === drawnFor) return;
      drawnFor = inside();
      if (as.value !== "table") show();
    }).observe(result);
    file.addEventListener("click", () => download("answer.csv", csv(answer)));
    saved.addEventListener("change", () => {
      const one = chosen();
      forget.hidden = !saved.value.startsWith("m");
      if (one === undefined) return;
      sql.value = one.sql;
      as.value = one.view ?? "table";
      pose();
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

    span.value = SPANS.some(([, each]) => String(each) === seconds) ? seconds : "600";
    if (VIEWS.some(([name]) => name === view)) as.value = view;
    if (asked) sql.value = asked;

    async function begin() {
      const found = await client.get("questions").catch((error) => tell(`${error.message}; asking again`));
      if (found === undefined || poll.ended) return;
      begun = true;
      presets = found.saved;
      fillSaved();
      tables.replaceChildren(...found.tables.map((one) => el("li", {}, el("b", {}, one.table), ` ${one.columns.map((column) => column.name).join(", ")}`)));
      tell(found.unavailable && `No answers here: ${found.unavailable}`);
      if (!sql.value && presets.length) {
        saved.value = "g0";
        sql.value = presets[0].sql;
        as.value = presets[0].view;
      }
      if (question === null) pose();
    }

    fillSaved();
    poll.every(REFRESH_MS, async () => {
      if (!begun) await begin();
      if (live.checked || unanswered) await run();
    });
  },
};
