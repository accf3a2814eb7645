// Puts the page together: token, polling, banner, pages.

import { Client } from "./client.js";
import { el, setText } from "./dom.js";
import { decoded, timeOfDay } from "./format.js";
import { moves, sessions, storePage } from "./lists.js";
import { overview } from "./overview.js";
import { Pages } from "./pages.js";
import { questions } from "./questions.js";
import { Store } from "./store.js";
import { showTroubles } from "./troubles.js";

const TOKEN = "garrison.token";
const STALE_MS = 2500;
const SETTLE_MS = 5000;
const byId = (id) => document.getElementById(id);

/** The token from the address (and out of it again), or from an earlier page of this tab. A link that has one may
 * name a page too: `#token=TOKEN&page=/matches/NAME`. */
function takeToken() {
  const [text, page = "/"] = location.hash.startsWith("#token=") ? location.hash.slice("#token=".length).split("&page=") : [""];
  const given = decoded(text);
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", `${location.pathname}#${page}`);
  }
  return given || sessionStorage.getItem(TOKEN);
}

const store = new Store();
const client = new Client(takeToken());
const pages = new Pages(byId("view"), byId("nav"), store, client);

function banner(text, kind, dismissable) {
  const box = byId("banner");
  box.dataset.kind = kind;
  const close = el("button", { type: "button", onclick: () => (box.hidden = true) }, "Dismiss");
  box.replaceChildren(el("span", {}, text), ...(dismissable ? [close] : []));
  box.hidden = false;
}

function link(state, text) {
  byId("link").dataset.state = state;
  setText(byId("link-text"), text);
}

function login(why) {
  byId("view").hidden = true;
  byId("login").hidden = false;
  if (why) setText(byId("login-why"), why);
  link("offline", "no token");
  if (document.activeElement?.id !== "login-token") byId("login-token").focus();
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  client.token = byId("login-token").value.trim();
  sessionStorage.setItem(TOKEN, client.token);
  byId("login-token").value = "";
  byId("login").hidden = true;
  byId("view").hidden = false;
  link("connecting", "connecting");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part of the address behind # names a page here
  const target = byId("view").hidden ? byId("login-token") : byId("view");
  target.focus();
  target.scrollIntoView();
});
addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#token=")) return;
  client.token = takeToken();
  pages.show();
});

let heardAt = 0;
let offline = false;
let hosts = null;
let strangerSince = 0;

client.addEventListener("live", ({ detail }) => {
  heardAt = performance.now();
  byId("login").hidden = true;
  byId("view").hidden = false;
  byId("view").classList.remove("stale");
  if (offline) {
    offline = false;
    byId("banner").hidden = true;
    store.note(`${detail.node} answers again`);
  }
  setText(byId("cluster-name"), detail.cluster);
  link("live", `live from ${detail.node}`);
  store.heard(detail);
  showTroubles(byId("troubles"), detail);
  if (store.gaps) fetchHistory();
  followHosts(detail);
});
client.addEventListener("moved", ({ detail }) => {
  offline = false;
  const text = `${detail.from || "The node of this page"} stopped answering at ${timeOfDay(Date.now())}. This page moved on to ${detail.to}.`;
  store.note(text);
  store.gaps = true;
  banner(text, "warn", true);
});
client.addEventListener("offline", ({ detail }) => {
  offline = true;
  byId("troubles").hidden = true; // nobody says whether they last
  link("offline", "no node answers");
  byId("view").classList.add("stale");
  const since = heardAt ? `What you see is from ${timeOfDay(Date.now() - (performance.now() - heardAt))}.` : "";
  banner(`${detail.node || "The node of this page"} and its known peers do not answer; trying again. ${since}`, "bad", false);
});
client.addEventListener("refused", ({ detail }) => {
  if (detail.by) {
    banner("Another node answers, but refuses this page's token: give all nodes the same admin token.", "bad", true);
    return;
  }
  client.token = null;
  sessionStorage.removeItem(TOKEN);
  login("The token was refused. A node without a configured token makes a new one at each start.");
});
setInterval(() => {
  const late = heardAt && performance.now() - heardAt > STALE_MS;
  if (late && !document.hidden && !client.stalls.since(performance.now() - STALE_MS)) byId("view").classList.add("stale");
}, 500);

let fetching = false;
async function fetchHistory() {
  if (fetching) return;
  fetching = true;
  try {
    store.history(await client.get("history"));
  } catch {
    // the gap stays known; the next answer tries again
  } finally {
    fetching = false;
  }
}

/** The page may only connect to hosts that were known when it was loaded. When a node joins on
 * another host, load the page anew, so that it can be followed there. */
function followHosts(answer) {
  const now = answer.nodes.map((node) => (node.admin_url ? new URL(node.admin_url).hostname : "")).filter(Boolean);
  hosts ??= new Set([location.hostname, ...now]);
  const strange = now.some((host) => !hosts.has(host));
  if (!strange || client.base !== client.home) strangerSince = 0;
  else if (!strangerSince) strangerSince = performance.now();
  else if (performance.now() - strangerSince > SETTLE_MS) location.reload();
}

pages.load([overview, sessions, moves, storePage, questions]).then((failed) => {
  if (failed.length) banner(`A page of the application did not load. ${failed.join("; ")}`, "bad", true);
  pages.show();
});
if (client.token === null) login();
client.run();
