// The audit of moderation, newest act first, and how one subject stands.

const POLL_MS = 2000;
const PER_PAGE = 50;
const FOR_GOOD = 2 ** 53 - 1;
const SEVERE = { ban: "bad", mute: "warn", kick: "warn", revoke: "warn", unban: "good", unmute: "good" };
const LAST_DATE_MS = 8.64e15;

/** "2026-11-29 12:00:00 UTC" */
const when = (ms) => (ms <= LAST_DATE_MS ? `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC` : "never");
const until = (ms) => (ms >= FOR_GOOD ? "for good" : `until ${when(ms)}`);
const length = (row) => (!row.until_ms ? "" : row.act === "revoke" ? `before ${when(row.until_ms)}` : until(row.until_ms));

function acts(garrison, caption, withSubject) {
  const { dom, href } = garrison;
  const pill = (row, cell) => {
    if (cell.childElementCount === 0) cell.append(dom.el("span", { class: "pill" }));
    dom.setText(cell.firstElementChild, row.act);
    dom.setAttribute(cell.firstElementChild, "data-level", SEVERE[row.act] ?? null);
  };
  const subject = (row, cell) => {
    if (cell.childElementCount === 0) cell.append(dom.el("a", { href: href(row.subject) }, row.subject));
  };
  const columns = [
    { title: "Time", head: true, render: (row) => when(row.at_ms) },
    { title: "Act", render: pill },
    withSubject && { title: "Subject", render: subject },
    { title: "By", render: (row) => (row.role === "admin" ? row.principal : `${row.principal} (${row.role})`) },
    { title: "Length", render: length },
    { title: "Reason", render: (row) => row.reason },
  ].filter(Boolean);
  const list = dom.table(caption, columns, (row) => `${row.subject}/${row.number}`);
  list.element.classList.add("acts");
  return list;
}

/** Pages of the audit under `asked()`, newest first, and the buttons that turn them. */
function pages(garrison, list, note, empty, asked) {
  const { dom, poll, get } = garrison;
  const newest = dom.el("button", { type: "button" }, "Newest");
  const older = dom.el("button", { type: "button" }, "Older");
  let cursor = "";
  let next = null;
  const turn = (to) => {
    cursor = to;
    poll.now();
  };
  newest.addEventListener("click", () => turn(""));
  older.addEventListener("click", () => next !== null && turn(next));
  poll.every(POLL_MS, async () => {
    const shown = cursor;
    const answer = await get("moderation", { ...asked(), cursor: shown, limit: PER_PAGE });
    if (shown !== cursor) return;
    next = answer.next;
    list.update(answer.rows);
    empty.hidden = answer.rows.length > 0;
    newest.disabled = cursor === "";
    older.disabled = next === null;
    dom.setText(note, cursor === "" ? "the newest" : `before ${when(answer.rows[0]?.at_ms ?? 0)}`);
  });
  return { newest, older, turn };
}

function field(garrison, label) {
  return garrison.dom.el("input", { type: "search", placeholder: label, "aria-label": `Only acts: ${label}`, maxlength: 64 });
}

function showLog(root, garrison) {
  const { el } = garrison.dom;
  const list = acts(garrison, "Acts of moderation, newest first", true);
  const note = el("span", { class: "note" });
  const empty = el("p", { class: "empty", hidden: true }, "No acts. ", "garrison ban NAME --reason WHY --for 7d is one.");
  const [subject, principal] = [field(garrison, "subject"), field(garrison, "by")];
  const given = (input) => input.value.trim();
  const { newest, older, turn } = pages(garrison, list, note, empty, () => ({ subject: given(subject), principal: given(principal) }));
  for (const input of [subject, principal]) input.addEventListener("input", () => turn(""));
  root.append(
    el("section", { class: "card" }, el("header", {}, el("h2", {}, "Moderation"), el("div", { class: "bar" }, note, subject, principal, newest, older)), list.element, empty),
  );
}

function showSubject(root, garrison, name) {
  const { dom, poll, get, href } = garrison;
  const { el, setText, setAttribute } = dom;
  const state = el("span", { class: "pill" });
  const facts = el("ul", { class: "standing" });
  const list = acts(garrison, `Acts about ${name}, newest first`, false);
  const note = el("span", { class: "note" });
  const empty = el("p", { class: "empty", hidden: true }, "Nobody has moderated this subject.");
  const { newest, older } = pages(garrison, list, note, empty, () => ({ subject: name }));
  root.append(
    el("p", {}, el("a", { href: href() }, "All acts")),
    el("section", { class: "card" }, el("header", {}, el("h2", {}, name), state), facts),
    el("section", { class: "card" }, el("header", {}, el("h2", {}, "Acts"), el("div", { class: "bar" }, note, newest, older)), list.element, empty),
  );
  const said = (word, ends, why) => `${word} ${until(ends)}${why ? `: ${dom.foreign(why)}` : ""}`;
  poll.every(POLL_MS, async () => {
    const found = await get(`standings/${encodeURIComponent(name)}`);
    const banned = found.banned_until_ms > found.now_ms;
    const muted = found.muted_until_ms > found.now_ms;
    setText(state, banned ? "banned" : muted ? "muted" : "welcome");
    setAttribute(state, "data-level", banned ? "bad" : muted ? "warn" : "good");
    const lines = [
      banned && said("Banned", found.banned_until_ms, found.ban_reason),
      muted && said("Muted", found.muted_until_ms, found.mute_reason),
      found.tokens_from_ms > 0 && `Tokens that were issued before ${when(found.tokens_from_ms)} are revoked`,
    ].filter(Boolean);
    const shown = lines.length ? lines : ["Neither banned nor muted, and every token of it counts."];
    dom.syncChildren(facts, shown, (line) => line, (line) => el("li", {}, line));
  });
}

export default {
  id: "moderation",
  title: "Moderation",
  order: 0.7,
  styles: "moderation.css",
  render(root, garrison, [name]) {
    if (name) showSubject(root, garrison, name);
    else showLog(root, garrison);
  },
};
