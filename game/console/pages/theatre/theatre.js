// The theatre of a match: its timeline, its scoreboard and its feed at any moment, played at any speed.
//
//     #/matches/NAME/theatre?t=MS&p=PLAYER      a link to a moment, with a player to follow
//
// Of a match that is being played it shows what an audience may see, and goes over into the replay when that is over.

import { BEHIND_MS, Playback, SPEEDS } from "./playback.js";
import { sample, sideClass, timeline } from "./timeline.js";
import { matchClock, modeOn, spokenClock, winner } from "./words.js";

const READ_MS = 250;
const GROW_MS = 2500;
const WAIT_MS = 15000;
const DRAW_MS = 80;
const SHORT_MS = 5000;
const KEYS = ["kill", "medal", "objective", "lead", "round", "started", "ended"];
const NAMED = { kill: "kills", death: "deaths", assist: "assists", medal: "medals", objective: "objectives", score: "scores", joined: "joins", left: "leaves", lead: "changes of lead" };
const GLYPHS = { kill: "kill", death: "death", assist: "assist", medal: "medal", objective: "objective", score: "score" };

/** What the address says after `?`. */
function asked() {
  const [, query = ""] = location.hash.split("/").at(-1).split("?");
  const given = new URLSearchParams(query);
  const at = given.get("t");
  return { at: at !== null && /^\d{1,15}$/.test(at) ? Number(at) : null, player: given.get("p") ?? "" };
}

/** How many characters all of the names begin with, where they differ in the rest. */
function sharedLength(names) {
  const [first = ""] = names;
  let length = 0;
  while (names.length > 1 && length < first.length - 1 && names.every((name) => name[length] === first[length] && name.length > length + 1)) length += 1;
  return length;
}

const steady = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function showTheatre(root, garrison, name) {
  const { dom, poll, client, href } = garrison;
  const { el, setText } = dom;
  const ask = (what, parameters = {}) => client.get(`matches/${encodeURIComponent(name)}/${what}`, parameters, WAIT_MS);
  const wait = el("p", { class: "empty", role: "status" }, "Reading the match.");
  const bar = el("progress", { hidden: true, max: 1, "aria-label": "Events read" });
  root.append(
    el("p", { class: "crumbs" }, el("a", { href: href() }, "All matches"), " · ", el("a", { href: href(name) }, name)),
    el("section", { class: "card waiting" }, wait, bar));
  read();

  async function read() {
    while (!poll.ended) {
      try {
        const summary = await ask("theatre");
        if (poll.ended) return;
        if (!summary.reading) {
          wait.parentElement.remove();
          stage(root, garrison, name, summary, ask);
          return;
        }
        setText(wait, `Reading the match: ${summary.read.toLocaleString("en")} of ${summary.events.toLocaleString("en")} events.`);
        bar.hidden = false;
        bar.value = summary.read / Math.max(1, summary.events);
      } catch (error) {
        if (error.status === 404 || error.status === 400) {
          setText(wait, error.status === 404 ? `There is no match ${name}, or nothing of it is stored yet.` : error.message);
          return;
        }
        setText(wait, `${error.message}; trying again.`);
      }
      await new Promise((resolve) => setTimeout(resolve, READ_MS));
    }
  }
}

function stage(root, garrison, name, first, ask) {
  const { dom, poll, readdress } = garrison;
  const { el, setText, setAttribute } = dom;
  let summary = first;
  let people = new Map();
  let followed = asked().player;
  const play = new Playback(ask, () => {
    setText(said, "The match is over. This is its replay now.");
    refresh();
  });
  play.heard(summary);

  // ---- what is shown ---------------------------------------------------------------------------
  const clock = el("b", { class: "clock num" });
  const pill = el("span", { class: "pill" });
  const left = el("div", { class: "side" });
  const right = el("div", { class: "side" });
  const facts = el("p", { class: "facts" });
  const notes = el("ul", { class: "notes", "aria-label": "About this recording" });
  const said = el("p", { class: "unseen", role: "status", "aria-live": "polite" });
  const line = timeline(dom);
  const names = el("div", { class: "names" });
  const legend = el("ul", { class: "legend", "aria-label": "Legend" });
  const board = scoreboard();
  const feed = el("ol", { class: "feed", "aria-label": "What happened, newest first" });
  const quiet = el("p", { class: "empty" }, "Nothing has happened yet.");
  const feedNote = el("span", { class: "note" });
  const boardNote = el("span", { class: "note" });
  const control = controls();
  root.append(
    el("section", { class: "card theatre stage" },
      el("div", { class: "score" }, left, el("div", { class: "middle" }, clock, pill), right),
      facts, notes, control.element, said,
      el("div", { class: "timeline" }, names, line.element), legend),
    el("div", { class: "board theatre" },
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Scoreboard"), boardNote), board.element),
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Feed"), feedNote), quiet, feed)));

  // ---- people ----------------------------------------------------------------------------------
  const called = (key) => (key.startsWith("team:") ? `Team ${key.slice(5)}` : (play.board.get(key)?.[1] ?? people.get(key)?.[1] ?? key));
  const who = (key) => el("span", { class: `who ${sideClass(summary, key)}${key === followed ? " followed" : ""}`, title: called(key) === key ? null : key }, called(key));

  function follow(key) {
    followed = key === followed ? "" : key;
    control.showFollowed();
    redraw();
    play.version += 1;
    keepAddress();
    setText(said, followed ? `Following ${called(followed)}` : "Following nobody");
  }

  // ---- controls --------------------------------------------------------------------------------
  function controls() {
    const toggle = el("button", { type: "button", class: "play", onclick: () => run(!play.playing) });
    const icon = (way) => dom.svg("svg", { viewBox: "-8 -8 16 16", width: 15, height: 15, "aria-hidden": "true" },
      dom.svg("path", { d: "M-5 -6L4 0L-5 6zM5 -6v12", transform: `scale(${way} 1)` }));
    const jump = (text, label, work) => el("button", { type: "button", "aria-label": label, title: label, onclick: work }, text);
    const speed = el("select", { "aria-label": "Speed", onchange: () => pace(Number(speed.value)) },
      SPEEDS.map((times) => el("option", { value: times, selected: times === play.speed }, `${times}×`)));
    const whom = el("select", { "aria-label": "Follow a player", onchange: () => follow(whom.value === followed ? "" : whom.value || followed) });
    const copied = el("input", { class: "link-text", readonly: true, hidden: true, "aria-label": "Link to this moment" });
    const copy = el("button", { type: "button", class: "copy", onclick: copyLink }, "Copy link");
    const live = el("button", { type: "button", class: "to-live", hidden: true, onclick: () => goLive() }, "Go live");
    const element = el("div", { class: "controls", role: "group", "aria-label": "Playback" },
      el("div", { class: "bar" },
        jump(icon(-1), "To the previous event (,)", () => step(-1)), jump("−10", "Back 10 seconds", () => hop(-10000)), toggle,
        jump("+10", "On 10 seconds", () => hop(10000)), jump(icon(1), "To the next event (.)", () => step(1)), live),
      el("div", { class: "bar" }, el("label", {}, "Speed ", speed), el("label", {}, "Follow ", whom), copy, copied));

    async function copyLink() {
      const link = address();
      try {
        await navigator.clipboard.writeText(link);
        copied.hidden = true;
        setText(copy, "Copied");
        setText(said, "The link to this moment is in the clipboard.");
      } catch {
        copied.hidden = false; // a page that is not secure may not write there: the person does
        copied.value = link;
        copied.select();
      }
      setTimeout(() => setText(copy, "Copy link"), 2500);
    }

    return {
      element,
      show() {
        const atEnd = play.atEnd;
        setText(toggle, play.playing ? "Pause" : atEnd ? "Again" : "Play");
        setAttribute(toggle, "data-icon", play.playing ? "pause" : "play");
        setAttribute(toggle, "aria-pressed", play.playing ? "true" : "false");
        live.hidden = !play.live || play.following;
        if (document.activeElement !== speed) speed.value = String(play.speed);
      },
      showFollowed() {
        const lanes = summary.people.slice(0, summary.lanes);
        const known = lanes.some(([key]) => key === followed) || !followed ? lanes : [...lanes, [followed, called(followed), null]];
        whom.replaceChildren(el("option", { value: "" }, "nobody"), ...known.map(([key, text]) => el("option", { value: key, selected: key === followed }, text)));
      },
    };
  }

  function run(on) {
    if (on && play.atEnd) play.seek(start());
    if (on && play.live && play.ms >= play.edge) play.following = true;
    play.playing = on;
    play.version += 1;
    if (!on) play.following = false;
    keepAddress();
  }

  function pace(times) {
    play.speed = times;
    play.following = false;
    play.version += 1;
  }

  function goLive() {
    play.playing = true;
    play.speed = 1;
    play.seek(Math.max(play.ms, play.edge), { follow: true });
  }

  const start = () => Math.min(summary.live_from_ms ?? 0, play.edge);
  const hop = (ms) => to(play.ms + ms);
  const shortHop = () => Math.max(SHORT_MS, 1000 * Math.round(play.edge / 200000));

  function to(ms) {
    play.seek(ms);
    paint(true);
    keepAddress();
  }

  /** Go to the next event that matters, or the previous one: of who is followed, if anybody is. */
  function step(way) {
    const { marks } = summary;
    const number = summary.people.findIndex(([key]) => key === followed);
    const mine = (place) => (followed ? marks.player[place] === number || marks.victim[place] === number : KEYS.includes(marks.what[place]));
    const times = marks.time_ms.filter((ms, place) => mine(place) && (way > 0 ? ms > play.ms : ms < play.ms));
    if (times.length) to(way > 0 ? times[0] : times.at(-1));
    else to(way > 0 ? play.edge : 0);
  }

  // ---- the address -----------------------------------------------------------------------------
  function place() {
    const query = new URLSearchParams({ t: String(Math.round(play.ms)) });
    if (followed) query.set("p", followed);
    return `#/matches/${encodeURIComponent(name)}/theatre?${query}`;
  }
  const address = () => `${location.origin}${location.pathname}${place()}`;
  function keepAddress() {
    readdress(place());
  }

  // ---- pointer and keys ------------------------------------------------------------------------
  line.element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    line.element.focus({ preventScroll: true });
    line.element.setPointerCapture(event.pointerId);
    to(line.msAt(event));
  });
  line.element.addEventListener("pointermove", (event) => {
    if (line.element.hasPointerCapture(event.pointerId)) to(line.msAt(event));
  });

  function pressed(event) {
    if (poll.ended) return removeEventListener("keydown", pressed);
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, nav")) return undefined;
    if (event.key === " " && event.target.closest?.("button, a")) return undefined;
    if (event.key.startsWith("Arrow") && event.target.closest?.(".scroll")) return undefined;
    const far = event.shiftKey ? 6 : 1;
    const keys = {
      ArrowLeft: () => hop(-far * shortHop()), ArrowRight: () => hop(far * shortHop()),
      ArrowDown: () => event.target === line.element && hop(-6 * shortHop()), ArrowUp: () => event.target === line.element && hop(6 * shortHop()),
      PageDown: () => event.target === line.element && hop(-play.edge / 10), PageUp: () => event.target === line.element && hop(play.edge / 10),
      Home: () => to(0), End: () => (play.live ? goLive() : to(play.edge)),
      " ": () => run(!play.playing), ",": () => step(-1), ".": () => step(1),
    };
    if (!(event.key in keys) || keys[event.key]() === false) return undefined;
    event.preventDefault();
    return undefined;
  }
  addEventListener("keydown", pressed);

  // ---- drawing ---------------------------------------------------------------------------------
  function scoreboard() {
    const player = (row, cell) => {
      if (cell.childElementCount === 0) cell.append(el("button", { type: "button", class: "name", onclick: () => follow(cell.key) }, el("i", { class: "mark" }), el("span")));
      cell.key = row[0];
      const button = cell.firstElementChild;
      setAttribute(button, "title", row[1] === row[0] ? null : row[0]);
      setAttribute(button, "aria-pressed", row[0] === followed ? "true" : "false");
      setAttribute(button.firstElementChild, "class", `mark ${sideClass(summary, row[0])}`);
      setText(button.lastElementChild, row[1]);
      setAttribute(button.lastElementChild, "class", row[3] || recorded() ? null : "absent");
    };
    const number = (title, place, long) => ({ title, num: true, long, render: (row) => row[place] });
    const table = dom.table("Scoreboard at this moment", [
      { title: "Player", head: true, render: player },
      number("Score", 4), number("K", 5, "Kills"), number("D", 6, "Deaths"), number("A", 7, "Assists"), number("Medals", 8), number("Obj", 9, "Objectives"),
    ], (row) => row[0], (row) => (row[0] === followed ? "followed" : ""));
    for (const [place, long] of [[2, "Kills"], [3, "Deaths"], [4, "Assists"], [6, "Objectives"]]) table.element.querySelectorAll("th")[place].title = long;
    return table;
  }

  /** Whether nobody came or went: a recording names players, and says no more. */
  function recorded() {
    return summary.mode === "recorded" && !summary.marks.what.includes("joined");
  }

  const order = (a, b) => (a[2] === null) - (b[2] === null) || a[2] - b[2] || b[4] - a[4] || b[5] - a[5] || (a[0] < b[0] ? -1 : 1);

  function showScores() {
    const teams = play.scores.length > 0 && summary.measure === "score";
    const measured = summary.measure === "kills" ? 5 : 4;
    const sides = teams ? play.scores.map((score, team) => ({ key: `team:${team}`, score, won: play.rounds[team] })) : [...play.board.values()].sort((a, b) => b[measured] - a[measured] || b[5] - a[5]).slice(0, 2).map((row) => ({ key: row[0], score: row[measured] }));
    const half = Math.ceil(sides.length / 2);
    [[left, sides.slice(0, half)], [right, sides.slice(half)]].forEach(([box, some]) => dom.syncChildren(box, some, (side) => side.key,
      () => el("div", {}, el("span"), el("b", { class: "num" })),
      (item, side) => {
        setAttribute(item, "class", sideClass(summary, side.key));
        setText(item.firstElementChild, `${called(side.key)}${side.won ? ` · ${side.won} won` : ""}`);
        setText(item.lastElementChild, side.score);
      }));
  }

  function showFeed() {
    quiet.hidden = play.feed.length > 0;
    dom.syncChildren(feed, play.feed, (row) => `${row.id}${row.player === followed || row.victim === followed ? "f" : ""}`, (row) => {
      const mine = followed && (row.player === followed || row.victim === followed);
      const go = el("button", { type: "button", class: "at", title: "Go to this moment", onclick: () => to(row.time_ms) }, el("time", {}, matchClock(row.time_ms)));
      const glyph = row.what in GLYPHS ? sample(dom, GLYPHS[row.what], sideClass(summary, row.player)) : el("span", { class: "sample" });
      return el("li", { class: mine ? "mine" : null }, go, glyph, el("span", { class: "text" }, ...words(row)));
    });
    setText(feedNote, followed ? `${called(followed)} is marked` : "");
  }

  function words(row) {
    const { player, victim, detail, points } = { player: "", victim: "", detail: "", points: 0, ...row };
    const text = dom.foreign;
    switch (row.what) {
      case "kill": return victim === player ? [who(player), " killed themselves"] : victim ? [who(player), " killed ", who(victim)] : [who(player), " scored a kill"];
      case "death": return [who(player), " died"];
      case "assist": return [who(player), " assisted"];
      case "medal": return [who(player), " earned ", el("em", {}, text(detail))];
      case "objective": return detail ? [who(player), ": ", el("em", {}, text(detail))] : [who(player), " played the objective"];
      case "score": return [who(player), ` ${points < 0 ? "lost" : "got"} ${Math.abs(points)} point${Math.abs(points) === 1 ? "" : "s"}`];
      case "joined": return [who(player), " joined"];
      case "kicked": return [who(player), ` was removed by the host${detail ? `: ${text(detail)}` : ""}`];
      case "host": return [who(player), " hosts the match"];
      case "left": return [who(player), ` left${detail && detail !== "left" ? ` (${detail})` : ""}`];
      case "countdown": return [`The match starts in ${points / 1000} s`];
      case "started": return ["The match is live"];
      case "round": return [`Round ${detail} is over`, ...(player ? [", won by ", who(player)] : [])];
      case "ended": return [`The match is over (${detail.replaceAll("_", " ")})`, ...(player ? [", won by ", who(player)] : [])];
      default: return [row.what];
    }
  }

  function redraw() {
    people = new Map(summary.people.map((person) => [person[0], person]));
    const lane = line.draw(summary, Math.max(play.edge, play.ms), followed);
    names.style.setProperty("--top", `${line.top}px`);
    names.style.setProperty("--lane", `${lane}px`);
    const narrow = names.clientWidth < 110;
    const common = sharedLength(summary.people.slice(0, summary.lanes).map(([, text]) => text));
    dom.syncChildren(names, summary.people.slice(0, summary.lanes), ([key]) => key,
      ([key]) => el("button", { type: "button", onclick: () => follow(key) }, el("i", { class: "mark" }), el("span")),
      (button, [key, text]) => {
        setAttribute(button, "aria-pressed", key === followed ? "true" : "false");
        setAttribute(button, "aria-label", `Follow ${text}`);
        setAttribute(button, "title", key === text ? text : `${text} (${key})`);
        setAttribute(button.firstElementChild, "class", `mark ${sideClass(summary, key)}`);
        setText(button.lastElementChild, narrow ? text.slice(common) : text);
      });
    line.head(play.ms);
    const kinds = new Set(summary.marks.what);
    const shown = ["kill", "death", "assist", "medal", "objective", "lead"].filter((what) => kinds.has(what) || (what === "death" && kinds.has("kill")));
    dom.syncChildren(legend, shown, (what) => what, (what) => el("li", {}, sample(dom, what, "plain"), what === "lead" ? "change of lead" : what));
    showFacts();
  }

  function showFacts() {
    const over = summary.phase === "ended" ? `over (${(summary.end_reason ?? "").replaceAll("_", " ")})${summary.winner ? `, won by ${summary.winner.startsWith("team:") ? winner(summary.winner) : dom.foreign(called(summary.winner))}` : ""}` : "";
    const when = summary.started_wall_ms || summary.created_wall_ms;
    setText(facts, [
      modeOn(summary, dom), `${summary.player_count} player${summary.player_count === 1 ? "" : "s"}`, `${summary.events.toLocaleString("en")} events`, over,
      when > 0 && when < 8.64e15 ? `${new Date(when).toISOString().slice(0, 16).replace("T", " ")} UTC` : "", summary.source,
    ].filter(Boolean).join(" · "));
    const omitted = Object.entries(summary.left_out).map(([what, count]) => `${count.toLocaleString("en")} ${NAMED[what] ?? what}`);
    const told = [
      play.live && summary.delay_ms > 0 && `Spectators see this match ${(summary.delay_ms / 1000).toLocaleString("en")} s late, and so does this page.`,
      summary.unruled && `${summary.unruled}. Events are shown as they were logged, scores as of the keyframe before each.`,
      ...summary.gaps.map((gap) => `Damaged: events ${gap.first_seq} to ${gap.last_seq} cannot be read: ${gap.why}.`),
      summary.gaps_left_out && `${summary.gaps_left_out} damaged places more.`,
      omitted.length && `The timeline leaves out ${omitted.join(", ")}; the feed has all.`,
      summary.player_count > summary.lanes && `Rows of the first ${summary.lanes} of ${summary.player_count.toLocaleString("en")} players.`,
    ].filter(Boolean);
    dom.syncChildren(notes, told, (text) => text, (text) => el("li", { class: text.startsWith("Damaged") ? "bad" : null }, text));
    notes.hidden = told.length === 0;
  }

  let painted = -1;
  let paintedAt = 0;
  function paint(now) {
    line.head(play.ms);
    setText(clock, matchClock(play.ms));
    const moment = performance.now();
    if (!now && (painted === play.version || moment - paintedAt < DRAW_MS)) return;
    painted = play.version;
    paintedAt = moment;
    const rows = [...play.board.values()].sort(order);
    board.update(rows);
    setText(boardNote, play.playerCount > rows.length ? `the first ${rows.length} of ${play.playerCount.toLocaleString("en")}` : "");
    showScores();
    showFeed();
    control.show();
    const state = play.failed ? play.failed : play.live ? (play.following ? "live" : "live, behind") : "replay";
    setText(pill, state);
    setAttribute(pill, "data-level", play.failed ? "bad" : play.live ? "good" : null);
    setAttribute(pill, "title", play.live ? `shown ${BEHIND_MS / 1000} s behind what is stored` : null);
    setAttribute(line.element, "aria-valuemax", Math.round(play.edge));
    setAttribute(line.element, "aria-valuenow", Math.round(play.ms));
    setAttribute(line.element, "aria-valuetext", `${spokenClock(play.ms)} of ${spokenClock(play.edge)}${play.scores.length ? `, score ${play.scores.join(" to ")}` : ""}`);
    root.dataset.seeking = play.seeking ? "yes" : "no";
  }

  // ---- time ------------------------------------------------------------------------------------
  let ticked = performance.now();
  function tick() {
    if (poll.ended) return;
    const now = performance.now();
    play.tick(Math.min(now - ticked, 1000));
    ticked = now;
    if (play.ms > drawnTo) redrawTo();
    paint(false);
    if (steady()) setTimeout(tick, 500);
    else requestAnimationFrame(tick);
  }

  let drawnTo = play.edge;
  function redrawTo() {
    drawnTo = Math.max(play.edge, play.ms);
    redraw();
  }

  async function refresh() {
    try {
      summary = await ask("theatre");
      play.heard(summary);
      redrawTo();
      control.showFollowed();
      play.version += 1;
    } catch {
      // the next time
    }
  }
  (async () => {
    while (!poll.ended && play.live) {
      await new Promise((resolve) => setTimeout(resolve, GROW_MS));
      if (!poll.ended && play.live) await refresh();
    }
  })();
  const sized = new ResizeObserver(() => (poll.ended ? sized.disconnect() : redraw()));
  sized.observe(line.element);

  redraw();
  control.showFollowed();
  const { at } = asked();
  if (at === null && play.live) {
    play.playing = true;
    play.seek(play.edge, { follow: true });
  } else play.seek(at ?? start());
  paint(true);
  tick();
}
