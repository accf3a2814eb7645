// Asking a node, and moving on to another when it dies. The page is served by one node; every
// answer of `/api/v1/live` names the peers, and any of them can take over. Addresses are those of
// directories: a node may be below a path of a proxy's.

const LIVE_TIMEOUT_MS = 1500;
const TRY_TIMEOUT_MS = 900;
const POLL_MS = 500;
const SLOW_POLL_MS = 1500;
const AGAIN_MS = 150;
const TICK_MS = 200;
const STALL_MS = 400;
const FORGIVEN = 3;

export class Refused extends Error {}

/** Nothing came back that is an answer. */
export class Unanswered extends Error {}

/** An error answer of the API: `code`, `message`, `status`. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "internal";
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The directory of a page's or a node's address: `https://host/path/`. */
function directory(address) {
  const url = new URL(address);
  return `${url.origin}${url.pathname.replace(/\/*$/, "/")}`;
}

/** Tells whether this browser stood still: an answer that came too late for its time limit then is no word of the
 * node. A browser stands still when the machine is asleep or busy, or a tab is frozen. */
class Stalls {
  constructor() {
    this.ticked = performance.now();
    this.found = -Infinity;
    setInterval(() => {
      if (this.#late()) this.found = performance.now();
      this.ticked = performance.now();
    }, TICK_MS);
  }

  #late = () => performance.now() - this.ticked > TICK_MS + STALL_MS;

  since(began) {
    return this.found >= began || this.#late();
  }
}

/** Emits `live` (detail: the answer), `moved` ({from, to}), `offline`, `refused`. */
export class Client extends EventTarget {
  constructor(token) {
    super();
    this.token = token;
    this.home = directory(new URL(".", location.href));
    this.base = this.home;
    this.stalls = new Stalls();
    this.forgiven = 0;
    this.node = "";
    this.peers = new Map(); // node -> {url, fit}: fit ones are tried first
    this.failing = false;
    this.#leaving = new AbortController(); // ends what a node is asked that this page leaves
  }

  #leaving;

  /** GET `/api/v1/PATH` from the present node. Throws ApiError, Refused or Unanswered, the last at once where this page
   * moves on to another node. */
  get(path, parameters = {}, timeoutMs = 5000) {
    return this.#ask(path, parameters, timeoutMs);
  }

  /** POST `body` as JSON to `/api/v1/PATH` of the present node. Throws as `get`. */
  post(path, body = {}, timeoutMs = 5000) {
    return this.#ask(path, {}, timeoutMs, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
  }

  /** Poll `live` for ever. */
  async run() {
    for (;;) {
      const began = performance.now();
      await this.#once();
      const wanted = document.hidden || this.failing ? SLOW_POLL_MS : POLL_MS;
      await pause(Math.max(50, wanted - (performance.now() - began)));
    }
  }

  async #once() {
    if (this.token === null) return;
    const began = performance.now();
    try {
      this.#heard(await this.#live(this.base, LIVE_TIMEOUT_MS));
    } catch (error) {
      if (error instanceof Refused) return this.#emit("refused", { node: this.node });
      if (this.#forgive(began)) return this.#once();
      if (error.name !== "TimeoutError") {
        await pause(AGAIN_MS); // a connection that was closed between two requests is no death
        try {
          return this.#heard(await this.#live(this.base, TRY_TIMEOUT_MS));
        } catch (again) {
          if (again instanceof Refused) return this.#emit("refused", { node: this.node });
          if (this.#forgive(began)) return this.#once();
        }
      }
      await this.#move();
    }
  }

  /** Whether to ask once more, because this browser stood still meanwhile. A hidden tab may do so all the time, and
   * must notice a death all the same. */
  #forgive(began) {
    if (this.forgiven >= FORGIVEN || !this.stalls.since(began)) return false;
    this.forgiven += 1;
    return true;
  }

  async #move() {
    const began = performance.now();
    const from = { node: this.node, base: this.base };
    const others = [...this.peers].filter(([, peer]) => peer.url !== this.base);
    for (const fit of [true, false]) {
      const attempts = others.filter(([, peer]) => peer.fit === fit).map(async ([, peer]) => [peer.url, await this.#live(peer.url, TRY_TIMEOUT_MS)]);
      try {
        const [url, answer] = await Promise.any(attempts);
        this.base = url;
        this.#leaving.abort();
        this.#leaving = new AbortController();
        this.#heard(answer);
        this.#emit("moved", { from: from.node, to: answer.node, url });
        return;
      } catch (failures) {
        const refused = (failures.errors ?? []).some((error) => error instanceof Refused);
        if (refused) this.#emit("refused", { node: "", by: "another node" });
      }
    }
    if (this.#forgive(began)) return this.#once();
    if (!this.failing) this.#emit("offline", { node: from.node });
    this.failing = true;
    if (from.base !== this.home) this.base = this.home; // try where we came from, too
  }

  #heard(answer) {
    this.failing = false;
    this.forgiven = 0;
    this.node = answer.node;
    const missing = new Set(answer.missing);
    for (const node of answer.nodes) {
      if (node.admin_url) {
        const fit = node.state === "up" && !node.suspect && !missing.has(node.node);
        this.peers.set(node.node, { url: directory(node.admin_url), fit });
      }
    }
    const present = new Set(answer.nodes.map((node) => node.node));
    for (const [node, peer] of this.peers) if (!present.has(node)) peer.fit = false;
    this.#emit("live", answer);
  }

  async #ask(path, parameters, timeoutMs, options) {
    const name = this.node;
    try {
      return await this.#get(this.base, path, parameters, AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#leaving.signal]), options);
    } catch (error) {
      if (error instanceof ApiError || error instanceof Refused) throw error;
      throw new Unanswered(name ? `${name} does not answer` : "there is no answer");
    }
  }

  #live = (base, timeoutMs) => this.#get(base, "live", {}, AbortSignal.timeout(timeoutMs));

  async #get(base, path, parameters, signal, { headers, ...options } = {}) {
    const url = new URL(`api/v1/${path}`, base);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    const response = await fetch(url, {
      ...options,
      headers: { ...headers, authorization: `Bearer ${this.token}` },
      signal,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    if (response.status === 401) throw new Refused("the token was refused");
    const body = await response.json();
    if (!response.ok) throw new ApiError(response.status, body);
    return body;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
