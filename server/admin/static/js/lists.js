// The engine's other pages: sessions, moves and the store.

import { el, setAttribute, setText, table } from "./dom.js";
import { duration, mebibytes, millis, whole } from "./format.js";
import { pill, stateOf } from "./overview.js";

const PER_PAGE = 100;
const POLL_MS = 2000;

const swatch = (store, pick) => (row, cell) => {
  if (cell.childElementCount === 0) cell.append(el("span", { class: "swatch" }), el("span"));
  cell.children[0].style.setProperty("--swatch", store.colour(pick(row)));
  setText(cell.children[1], pick(row));
};

function statePill(row, cell) {
  if (cell.childElementCount === 0) cell.append(el("span", { class: "pill" }));
  setText(cell.firstElementChild, row.state);
  setAttribute(cell.firstElementChild, "data-level", row.state === "attached" ? "good" : "warn");
}

const without = (missing) => (missing.length ? `without ${missing.join(", ")}, which did not answer` : "");

export const sessions = {
  id: "sessions",
  title: "Sessions",
  order: 1,
  render(root, { store, client, poll }) {
    const seconds = (field) => (row) => (typeof row[field] === "number" ? duration(row[field]) : "–");
    const count = (field) => (row) => (typeof row[field] === "number" ? whole(row[field]) : "–");
    const columns = [
      { title: "Subject", head: true, render: (row) => row.subject },
      { title: "Role", render: (row) => row.role },
      { title: "State", render: statePill },
      { title: "Node", render: swatch(store, (row) => row.node) },
      { title: "Age", num: true, render: seconds("age_s") },
      { title: "Last heard", num: true, render: seconds("idle_s") },
      { title: "Pushes", num: true, render: count("pushes") },
      { title: "Outbox", num: true, render: count("outbox") },
      { title: "Subscriptions", num: true, render: count("subscriptions") },
      { title: "Format", render: (row) => row.format ?? "–" },
      { title: "Address", render: (row) => row.address ?? "–" },
      { title: "Client", render: (row) => row.client || "–" },
    ];
    const list = table("Sessions", columns, (row) => `${row.node}/${row.session}`);
    const note = el("span", { class: "note" });
    const empty = el("p", { class: "empty" }, "No sessions.");
    const subject = el("input", { type: "search", placeholder: "player, host or service", "aria-label": "Only sessions of", maxlength: 64 });
    const before = el("button", { type: "button" }, "Previous");
    const after = el("button", { type: "button" }, "Next");
    let page = 0;
    let next = null;
    const load = async () => {
      const answer = await client.get("sessions", { page, limit: PER_PAGE, subject: subject.value.trim() });
      next = answer.next ?? null;
      list.update(answer.rows);
      empty.hidden = answer.rows.length > 0;
      before.disabled = page === 0;
      after.disabled = next === null;
      setText(note, [`page ${page + 1}, ${whole(answer.rows.length)} rows`, without(answer.missing)].filter(Boolean).join(", "));
    };
    const turn = (to) => {
      page = Math.max(0, to);
      poll.now();
    };
    before.addEventListener("click", () => turn(page - 1));
    after.addEventListener("click", () => turn(page + 1));
    subject.addEventListener("input", () => turn(0));
    root.append(
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Sessions"), el("div", { class: "bar" }, note, subject, before, after)), list.element, empty),
    );
    poll.every(POLL_MS, load);
  },
};

/** "1.2 ms, 99% under 5 ms" */
function pause(moves) {
  if (moves.migrations_total === 0) return "–";
  const bound = moves.pause_p99_ms === null ? "over 5 s" : `under ${millis(moves.pause_p99_ms)}`;
  return `${millis(moves.pause_mean_ms)}, 99% ${bound}`;
}

/** Who is leaving and with how much, or that everything is in its place. */
function onTheWay(nodes) {
  const leaving = nodes.filter((node) => node.state === "leaving" && node.report);
  const misplaced = (node) => node.report?.moves?.misplaced ?? 0;
  const toMove = (node) => (leaving.includes(node) ? Math.max(misplaced(node), node.report.activations) : misplaced(node));
  const left = nodes.reduce((sum, node) => sum + toMove(node), 0);
  const sessions = leaving.reduce((sum, node) => sum + node.report.sessions, 0);
  const some = (count, one) => count > 0 && `${whole(count)} ${count === 1 ? one : `${one}s`}`;
  const going = [some(left, "activation"), some(sessions, "session")].filter(Boolean).join(" and ");
  const empty = leaving.filter((node) => node.report.activations + node.report.sessions === 0).map((node) => node.node);
  const done = empty.length === 1 ? `${empty[0]} is empty: stop it` : `${empty.join(" and ")} are empty: stop them`;
  const said = [going && `${going} ${left + sessions === 1 ? "is" : "are"} still to move`, empty.length > 0 && done].filter(Boolean);
  return said.length ? said : ["everything is in its place"];
}

export const moves = {
  id: "moves",
  title: "Moves",
  order: 2,
  render(root, { store, poll }) {
    const told = (pick) => (node) => (node.report?.moves ? pick(node.report.moves, node) : "–");
    const count = (field) => told((moves) => whole(moves[field]));
    const marked = (field) => (node, cell) => {
      setAttribute(cell, "class", node.report?.moves?.[field] > 0 ? "num level-warn" : "num");
      return count(field)(node);
    };
    const state = { title: "State", render: (node, cell) => pill(cell, stateOf(node, new Set(store.live.missing))) };
    const columns = [
      { title: "Node", head: true, render: swatch(store, (node) => node.node) },
      state,
      { title: "Still to move", num: true, render: marked("misplaced") },
      { title: "Activations here", num: true, render: (node) => (node.report ? whole(node.report.activations) : "–") },
      { title: "Sessions here", num: true, render: (node) => (node.report ? whole(node.report.sessions) : "–") },
      { title: "Moved away", num: true, render: count("migrations_total") },
      { title: "Pause of callers", num: true, render: told(pause) },
      { title: "Failed", num: true, render: marked("failed_total") },
      { title: "Sessions handed over", num: true, render: count("sessions_handed_over_total") },
    ];
    const takeovers = [
      { title: "Node", head: true, render: swatch(store, (node) => node.node) },
      { title: "Taken over", num: true, render: count("takeovers_total") },
      { title: "Newest state from a journal", num: true, render: count("adopted_total") },
      { title: "Journal unreadable", num: true, render: marked("unread_total") },
      { title: "Woken with no caller", num: true, render: count("orphans_woken_total") },
      { title: "Nodes evicted", num: true, render: count("evictions_total") },
    ];
    const going = table("Activations and sessions that move", columns, (node) => node.node);
    const taken = table("What came from nodes that died", takeovers, (node) => node.node);
    const note = el("span", { class: "note" });
    root.append(
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Moves"), note), going.element),
      el(
        "section", { class: "card" },
        el("header", {}, el("h2", {}, "Takeovers"), el("span", { class: "note" }, "from nodes that died, since each node started")),
        taken.element,
      ),
    );
    poll.onChange(() => {
      if (store.live === null) return;
      going.update(store.live.nodes);
      taken.update(store.live.nodes);
      setText(note, [...onTheWay(store.live.nodes), without(store.live.missing)].filter(Boolean).join(", "));
    });
  },
};

/** "local, 1 of 32 MiB" */
const journal = (row) => (row.journal === "none" ? "none" : `${row.journal}, ${Math.ceil(row.journal_backlog_bytes / 1048576)} of ${mebibytes(row.limits.journal_bytes)}`);

export const storePage = {
  id: "store",
  title: "Store",
  order: 3,
  render(root, { store, client, poll }) {
    const count = (field) => (row) => whole(row[field]);
    const columns = [
      { title: "Node", head: true, render: swatch(store, (row) => row.node) },
      { title: "Store", render: (row) => row.url },
      { title: "Dirty", num: true, render: (row) => `${whole(row.dirty)} of ${whole(row.limits.max_dirty)}` },
      { title: "Oldest change", num: true, render: (row) => `${row.dirty_age_s.toFixed(2)} of ${row.limits.max_dirty_age_s} s` },
      { title: "Flushes", num: true, render: count("flushes_total") },
      { title: "Mean flush", num: true, render: (row) => `${row.flush_mean_ms.toFixed(1)} ms` },
      { title: "Rows", num: true, render: count("flushed_rows_total") },
      { title: "Failures", num: true, render: count("flush_failures_total") },
      { title: "Claims", num: true, render: count("claims_total") },
      { title: "Log entries", num: true, render: count("log_entries_total") },
      { title: "Mean commit", num: true, render: (row) => `${row.log_commit_mean_ms.toFixed(1)} ms` },
    ];
    const owning = [
      { title: "Node", head: true, render: swatch(store, (row) => row.node) },
      { title: "Lease renewals", num: true, render: count("lease_renewals_total") },
      { title: "Failed", num: true, render: count("lease_failures_total") },
      { title: "Fenced off", num: true, render: count("fenced_total") },
      { title: "Changes lost by that", num: true, render: count("fenced_changes_lost_total") },
      { title: "Crash journal", num: true, render: journal },
      { title: "Changes it refused", num: true, render: count("journal_refused_total") },
    ];
    const owned = table("Leases, fences and crash journal of each node", owning, (row) => row.node);
    const list = table("Write-behind and match logs of each node", columns, (row) => row.node);
    const kinds = table(
      "Actors in memory",
      [
        { title: "Kind", head: true, render: (row) => row.kind },
        { title: "Node", render: swatch(store, (row) => row.node) },
        { title: "In memory", num: true, render: count("count") },
      ],
      (row) => `${row.kind}/${row.node}`,
    );
    const note = el("span", { class: "note" });
    root.append(
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Store"), note), list.element),
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Ownership and journal")), owned.element),
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Actors in memory")), kinds.element),
    );
    poll.every(POLL_MS, async () => {
      const [states, counts] = await Promise.all([client.get("store"), client.get("activations")]);
      list.update(states.rows);
      owned.update(states.rows);
      kinds.update(counts.rows.sort((a, b) => a.kind.localeCompare(b.kind) || a.node.localeCompare(b.node)));
      setText(note, without(states.missing));
    });
  },
};
