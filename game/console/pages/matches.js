// Live matches with their scoreboards, those that have ended, and one match with its kill feed.

import { matchFilters, orRefusal } from "./history/filters.js";
import { showTheatre } from "./theatre/theatre.js";
import { modeOn, teamClass, winner } from "./theatre/words.js";

const LIST_MS = 1000;
const ENDED_MS = 5000;
const ENDED_SHOWN = 20;
const SHOWN = 60;

const HAPPENED = {
  kill: (row) => (row.victim ? `${row.player} killed ${row.victim}` : `${row.player} scored a kill`),
  death: (row) => `${row.player} died`,
  assist: (row) => `${row.player} assisted`,
  medal: (row, { foreign }) => `${row.player} earned ${foreign(row.detail)}`,
  objective: (row, { foreign }) => `${row.player}${row.detail ? `: ${foreign(row.detail)}` : " played the objective"}`,
  score: (row) => `${row.player} ${row.points < 0 ? "lost" : "got"} ${Math.abs(row.points)} points`,
  joined: (row) => `${row.player} joined`,
  kicked: (row) => `${row.player} was removed by the host` + (row.detail ? `: ${row.detail}` : ""),
  host: (row) => `${row.player} hosts the match`,
  left: (row) => `${row.player} left${row.detail && row.detail !== "left" ? ` (${row.detail})` : ""}`,
  round: (row) => `round ${row.detail} ended${row.player ? `, won by ${winner(row.player)}` : ""}`,
  ended: (row) => `the match ended by ${row.detail}${row.player ? `, won by ${winner(row.player)}` : ""}`,
};

const phaseLevel = { live: "good", countdown: "warn", lobby: null, ended: null };
const missingNote = (missing) => (missing.length ? `without the matches of ${missing.join(", ")}, which did not answer` : "");

/** One row a match: while a match moves between nodes, the one with the later clock. */
function latest(rows) {
  const newest = new Map();
  for (const row of rows) if (!(newest.get(row.match)?.time_ms >= row.time_ms)) newest.set(row.match, row);
  return [...newest.values()];
}

/** The scores of the teams, as one row of boxes. */
function showScores(box, scores, { dom }) {
  box.hidden = scores.length === 0;
  dom.syncChildren(
    box,
    scores.map((score, team) => ({ score, team })),
    (one) => one.team,
    (one) => dom.el("span", { class: teamClass(one.team) }, `Team ${one.team}`, dom.el("b")),
    (item, one) => dom.setText(item.querySelector("b"), one.score),
  );
}

function playerCell({ dom }) {
  return (row, cell) => {
    if (cell.childElementCount === 0) cell.append(dom.el("span", { class: "mark", "aria-hidden": "true" }), dom.el("span"));
    dom.setAttribute(cell.children[0], "class", `mark ${teamClass(row.team)}`);
    dom.setText(cell.children[1], row.name ? dom.foreign(row.name) : row.player);
    dom.setAttribute(cell.children[1], "class", row.present === false ? "absent" : null);
    const told = [row.name && row.player, row.team !== null && `team ${row.team}`].filter(Boolean);
    dom.setAttribute(cell, "title", told.join(", ") || null);
  };
}

/** What the store has of matches that are over, newest first. */
function showEnded(root, garrison) {
  const { dom, format, poll, get, href } = garrison;
  const { el } = dom;
  const name = (row, cell) => {
    if (cell.childElementCount === 0) cell.append(el("a", { href: href(row.match, "theatre"), title: "Open its theatre" }, row.match));
  };
  const ended = dom.table("Matches that have ended, newest first", [
    { title: "Match", head: true, render: name },
    { title: "Mode", render: (row) => modeOn(row, dom) },
    { title: "Players", num: true, render: (row) => row.players },
    { title: "Score", num: true, render: (row) => row.team_scores.join(" : ") },
    { title: "Winner", render: (row) => (row.winner ? winner(row.winner) : "") },
    { title: "Clock", num: true, render: (row) => format.clock(row.time_ms) },
    { title: "Events", num: true, render: (row) => row.events ?? "" },
    { title: "", render: (row) => (row.pinned ? "pinned" : "") },
  ], (row) => row.match);
  const changed = () => poll.now();
  const filters = matchFilters(garrison, ["player", "mode", "map_name", "property", "tag"], { changed });
  const card = el("section", { class: "card ended", hidden: true }, el("header", {}, el("h2", {}, "Ended matches"), filters.element), ended.element);
  root.append(card);
  poll.every(ENDED_MS, async () => {
    const asked = filters.asked();
    if (asked === null) {
      const { rows } = await get("stored-matches", { phase: "ended", limit: ENDED_SHOWN });
      if (filters.asked() !== null) return;
      card.hidden = rows.length === 0;
      ended.update(rows);
      filters.told({});
      return;
    }
    const found = await orRefusal(get("match-history", { ...asked, limit: ENDED_SHOWN }));
    if (JSON.stringify(filters.asked()) !== JSON.stringify(asked)) return;
    ended.update(found.matches.map((row) => ({ ...row, players: row.player_count })));
    filters.told(found);
  });
}

function showList(root, garrison) {
  const { dom, format, poll, query, href } = garrison;
  const { el, setText, setAttribute } = dom;
  const note = el("span", { class: "note" });
  const none = el("p", { class: "empty", hidden: true }, "No match is being played. ", "garrison play FILE.jsonl starts one.");
  const list = el("div", { class: "matches" });
  root.append(el("header", { class: "bar" }, el("h2", {}, "Live matches"), note), none, list);
  showEnded(root, garrison);

  const create = (match) => {
    const parts = {
      phase: el("span", { class: "pill" }),
      clock: el("span", { class: "num" }),
      facts: el("p", { class: "facts" }, el("span"), el("span"), el("span")),
      scores: el("div", { class: "scores" }),
      leaders: dom.table(`Scoreboard of ${match.match}`, [
        { title: "Player", head: true, render: playerCell(garrison) },
        { title: "K", num: true, render: (row) => row.kills },
        { title: "D", num: true, render: (row) => row.deaths },
        { title: "A", num: true, render: (row) => row.assists },
        { title: "Score", num: true, render: (row) => row.score },
      ], (row) => row.player),
    };
    const title = el("h3", {}, el("a", { href: href(match.match) }, match.match));
    const watch = el("a", { href: href(match.match, "theatre"), "aria-label": `Theatre of ${match.match}` }, "Watch");
    const card = el("article", { class: "card match" }, el("header", {}, title, el("span", { class: "bar" }, watch, parts.clock, parts.phase)), parts.facts, parts.scores, parts.leaders.element);
    card.parts = parts;
    return card;
  };
  const update = (card, match) => {
    const { phase, clock, facts, scores, leaders } = card.parts;
    setText(phase, match.phase);
    setAttribute(phase, "data-level", phaseLevel[match.phase]);
    setText(clock, format.clock(match.time_ms));
    setText(facts.children[0], modeOn(match, dom));
    setText(facts.children[1], `${match.players} ${match.players === 1 ? "player" : "players"}`);
    setText(facts.children[2], `on ${match.node}`);
    showScores(scores, match.team_scores, garrison);
    leaders.update(match.leaders ?? []);
  };
  poll.every(LIST_MS, async () => {
    const answer = await query("live_matches", { leaders: 1, limit: SHOWN });
    const missing = answer.missing;
    const rows = latest(answer.rows);
    rows.sort((a, b) => b.created_wall_ms - a.created_wall_ms || a.match.localeCompare(b.match));
    const shown = rows.slice(0, SHOWN);
    none.hidden = rows.length > 0;
    setText(note, [`${rows.length > SHOWN ? `the newest ${SHOWN}` : rows.length}`, missingNote(missing)].filter(Boolean).join(", "));
    dom.syncChildren(list, shown, (match) => match.match, create, update);
  });
}

function part(board) {
  return board.player_count > board.players.length ? `the first ${board.players.length} of ${board.player_count} players` : "";
}

function showMatch(root, garrison, name) {
  const { dom, format, poll, query, get, href } = garrison;
  const { el, setText, setAttribute } = dom;
  const phase = el("span", { class: "pill" });
  const clock = el("span", { class: "num" });
  const facts = el("span", { class: "note" }, "looking for the match");
  const scores = el("div", { class: "scores big", hidden: true });
  const players = dom.table(`Scoreboard of ${name}`, [
    { title: "Player", head: true, render: playerCell(garrison) },
    { title: "Kills", num: true, render: (row) => row.kills },
    { title: "Deaths", num: true, render: (row) => row.deaths },
    { title: "Assists", num: true, render: (row) => row.assists },
    { title: "Medals", num: true, render: (row) => row.medals },
    { title: "Objectives", num: true, render: (row) => row.objectives },
    { title: "Score", num: true, render: (row) => row.score },
  ], (row) => row.player);
  const feed = el("ol", { class: "feed", "aria-label": "Newest events first" });
  const quiet = el("p", { class: "empty" }, "Nothing has happened yet.");
  root.append(
    el("p", {}, el("a", { href: href() }, "All live matches"), " · ", el("a", { href: href(name, "theatre") }, "Theatre")),
    el("section", { class: "card match" }, el("header", {}, el("h2", {}, name), el("span", { class: "bar" }, clock, phase)), el("p", { class: "facts" }, facts), scores),
    el("div", { class: "board" },
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Scoreboard")), players.element),
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Kill feed")), quiet, feed)),
  );
  let seen = false;
  let stored = []; // its players, where it is not in memory
  const showAway = (missing) => {
    const known = seen || stored.length > 0;
    const where = known ? `its theatre, or garrison replay ${name}, shows it` : "no such live match, and no player of it is stored";
    setText(facts, missing.length ? missingNote(missing) : where);
    setText(quiet, known ? "Its theatre has what happened." : "Nothing has happened.");
    if (missing.length) return;
    setAttribute(phase, "data-level", null);
    setText(phase, known ? "not in memory" : "not live");
  };
  const line = (row) =>
    el("li", {}, el("time", {}, format.clock(row.time_ms)), el("span", { class: `what ${row.what}` }, row.what), el("span", { class: "text" }, (HAPPENED[row.what] ?? (() => row.what))(row, dom)));
  poll.every(LIST_MS, async () => {
    const { rows, missing } = await query("match_board", { match: name });
    const board = rows.reduce((best, row) => (best === null || row.next_seq > best.next_seq ? row : best), null);
    if (board === null) {
      showAway(missing);
      stored = (await get(`stored-matches/${encodeURIComponent(name)}`)).rows;
      showAway(missing);
      players.update(stored);
      return;
    }
    seen = true;
    setText(phase, board.phase);
    setAttribute(phase, "data-level", phaseLevel[board.phase]);
    setText(clock, format.clock(board.time_ms));
    const over = board.phase === "ended" ? `ended by ${board.end_reason}${board.winner ? `, won by ${winner(board.winner)}` : ""}` : "";
    setText(facts, [modeOn(board, dom), `reported by ${board.host}`, `on ${board.node}`, `${board.next_seq - 1} events`, part(board), over].filter(Boolean).join(" · "));
    showScores(scores, board.team_scores, garrison);
    players.update(board.players);
    quiet.hidden = board.feed.length > 0;
    setText(quiet, "Nothing has happened yet.");
    dom.syncChildren(feed, board.feed, (row) => row.seq, line);
  });
}

export default {
  id: "matches",
  title: "Matches",
  order: 0.5,
  styles: "matches.css",
  render(root, garrison, [name, view]) {
    if (name && view?.split("?")[0] === "theatre") showTheatre(root, garrison, name);
    else if (name) showMatch(root, garrison, name);
    else showList(root, garrison);
  },
};
