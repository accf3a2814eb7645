// Players by name as they are stored, and one player: presence, devices, party, friends.

import { matchFilters, orRefusal } from "./history/filters.js";
import { modeOn } from "./theatre/words.js";

const LIST_MS = 3000;
const RECENT_MS = 5000;
const RECENT = 20;
const PLAYER_MS = 1000;
const PER_PAGE = 50;

const LEVELS = { online: "good", away: "warn", busy: "warn", invisible: null, offline: null, unknown: "bad" };

/** "2026-11-29 12:00:00 UTC" */
const when = (ms) => (ms > 0 && ms < 8.64e15 ? `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC` : "never");

function statusPill({ dom }, pill, status) {
  dom.setText(pill, status || "nothing said");
  dom.setAttribute(pill, "data-level", LEVELS[status] ?? null);
}

function showList(root, garrison) {
  const { dom, poll, get, href } = garrison;
  const { el, setText } = dom;
  const name = (row, cell) => {
    if (cell.childElementCount === 0) cell.append(el("a", { href: href(row.player) }));
    setText(cell.firstElementChild, row.display_name ? dom.foreign(row.display_name) : row.player);
    dom.setAttribute(cell.firstElementChild, "title", row.display_name ? row.player : null);
  };
  const status = (row, cell) => {
    if (cell.childElementCount === 0) cell.append(el("span", { class: "pill" }));
    statusPill(garrison, cell.firstElementChild, row.status);
  };
  const list = dom.table("Players by name, as stored", [
    { title: "Player", head: true, render: name },
    { title: "Status", render: status },
    { title: "Match", render: (row) => row.match },
    { title: "Party", render: (row) => row.party },
    { title: "Friends", num: true, render: (row) => row.friends },
    { title: "Seen last", render: (row) => when(row.last_seen_ms) },
  ], (row) => row.player);
  list.element.classList.add("players");
  const from = el("input", { type: "search", placeholder: "from the name", "aria-label": "Players from this name on", maxlength: 64 });
  const first = el("button", { type: "button" }, "First");
  const further = el("button", { type: "button" }, "Further");
  const note = el("span", { class: "note" });
  const empty = el("p", { class: "empty", hidden: true }, "No player from this name on.");
  let since = "";
  let next = null;
  const turn = (to) => {
    since = to;
    poll.now();
  };
  from.addEventListener("input", () => turn(from.value.trim()));
  first.addEventListener("click", () => {
    from.value = "";
    turn("");
  });
  further.addEventListener("click", () => next !== null && turn(next));
  root.append(
    el("section", { class: "card" }, el("header", {}, el("h2", {}, "Players"), el("div", { class: "bar" }, note, from, first, further)), list.element, empty),
  );
  poll.every(LIST_MS, async () => {
    const shown = since;
    const { rows } = await get("players", { since: shown, limit: PER_PAGE });
    if (shown !== since) return;
    next = rows.length === PER_PAGE ? rows.at(-1).player : null;
    list.update(rows);
    empty.hidden = rows.length > 0;
    first.disabled = since === "";
    further.disabled = next === null;
    setText(note, "some seconds old");
  });
}

/** What a player does, as lines of [name, value]. */
function doing(here, stored, dom) {
  const rich = here?.rich;
  const party = here?.party || stored?.party;
  const where = rich && [rich.mode, rich.map_name].filter(Boolean).map(dom.foreign).join(" on ");
  const size = here?.party_size ? `, ${here.party_size} of ${here.party_room}` : "";
  return [
    ["Says", here?.activity && dom.foreign(here.activity)],
    ["Plays", where],
    ["Score", rich?.score && dom.foreign(rich.score)],
    ["To follow", rich?.join && dom.foreign(rich.join)],
    ...(rich?.fields ?? []).map((field) => [field.name, dom.foreign(field.value)]),
    ["Match", (here ?? stored)?.match],
    ["Party", party && `${party}${size}`],
    ["Friends", stored && String(stored.friends)],
    ["Display name", stored?.display_name && dom.foreign(stored.display_name)],
    ["Seen last", when(here?.last_seen_ms || stored?.last_seen_ms || 0)],
    ["In memory", here ? `on ${here.node}` : "on no node"],
  ].filter(([, value]) => value);
}

/** The matches that a player was in, newest first, each with a way into its theatre. */
function showRecent(root, garrison, name) {
  const { dom, poll, get } = garrison;
  const { el, setText, setAttribute } = dom;
  const theatre = (row, cell) => {
    const address = `#/matches/${encodeURIComponent(row.match)}/theatre?${new URLSearchParams({ p: name })}`;
    if (cell.childElementCount === 0) cell.append(el("a", { href: address, title: "Open its theatre" }, row.match));
  };
  const result = (row, cell) => {
    if (cell.childElementCount === 0) cell.append(el("span", { class: "pill" }));
    setText(cell.firstElementChild, row.own?.result || "–");
    setAttribute(cell.firstElementChild, "data-level", row.own?.result === "won" ? "good" : null);
  };
  const own = (field) => (row) => row.own?.[field] ?? "";
  const list = dom.table(`Matches of ${name}, those first that ended last`, [
    { title: "Match", head: true, render: theatre },
    { title: "Result", render: result },
    { title: "Mode", render: (row) => modeOn(row, dom) },
    { title: "Score", num: true, render: (row) => row.team_scores.join(" : ") || own("score")(row) },
    { title: "K", num: true, render: own("kills") },
    { title: "D", num: true, render: own("deaths") },
    { title: "A", num: true, render: own("assists") },
    { title: "Ended", render: (row) => when(row.ended_wall_ms) },
  ], (row) => row.match);
  const changed = () => poll.now();
  const filters = matchFilters(garrison, ["opponent", "mode", "map_name", "property", "tag"], { result: true, changed });
  const card = el("section", { class: "card recent", hidden: true }, el("header", {}, el("h2", {}, "Recent matches"), filters.element), list.element);
  root.append(card);
  poll.every(RECENT_MS, async () => {
    const asked = filters.asked();
    const found = await orRefusal(get(`players/${encodeURIComponent(name)}/history`, { ...asked, limit: RECENT }));
    if (JSON.stringify(filters.asked()) !== JSON.stringify(asked)) return;
    card.hidden = asked === null && found.matches.length === 0;
    list.update(found.matches);
    filters.told(found);
  });
}

function showPlayer(root, garrison, name) {
  const { dom, poll, get, href } = garrison;
  const { el, setText } = dom;
  const status = el("span", { class: "pill", hidden: true });
  const facts = el("dl", { class: "presence" });
  const note = el("p", { class: "empty" }, "looking for the player");
  const devices = dom.table(`Devices of ${name}, those that spoke last first`, [
    { title: "Device", head: true, render: (row) => row.kind || "not said" },
    { title: "Program", render: (row) => row.client },
    { title: "Status", render: (row) => row.status },
    { title: "Says", render: (row) => row.activity },
  ], (row) => row.place);
  const none = el("p", { class: "empty" }, "No device is connected.");
  devices.element.hidden = true;
  const title = el("h2", { title: name }, name);
  root.append(
    el("p", {}, el("a", { href: href() }, "All players")),
    el("section", { class: "card" }, el("header", {}, title, status), note, facts),
    el("section", { class: "card" }, el("header", {}, el("h2", {}, "Devices")), none, devices.element),
  );
  showRecent(root, garrison, name);
  const show = ({ stored, rows, missing }) => {
    const here = rows.find((row) => row.devices.length) ?? rows[0];
    const known = here ?? stored;
    status.hidden = false;
    setText(title, stored?.display_name ? dom.foreign(stored.display_name) : name);
    statusPill(garrison, status, known ? known.status : "unknown");
    note.hidden = missing.length === 0;
    setText(note, `${missing.join(", ")} did not answer`);
    dom.syncChildren(facts, known ? doing(here, stored, dom) : [], ([title]) => title,
      ([title]) => el("div", {}, el("dt", {}, title), el("dd")),
      (item, [, value]) => setText(item.lastElementChild, value));
    const lines = (here?.devices ?? []).map((device, place) => ({ ...device, place }));
    devices.update(lines);
    devices.element.hidden = lines.length === 0;
    none.hidden = lines.length > 0;
  };
  poll.every(PLAYER_MS, async () => {
    try {
      show(await get(`players/${encodeURIComponent(name)}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      note.hidden = false;
      setText(note, root.querySelector(".recent:not([hidden])") ? "Nothing is stored of this player but its matches." : "There is no such player.");
    }
  });
}

export default {
  id: "players",
  title: "Players",
  order: 0.6,
  styles: "players.css",
  render(root, garrison, [name]) {
    if (name) showPlayer(root, garrison, name);
    else showList(root, garrison);
  },
};
