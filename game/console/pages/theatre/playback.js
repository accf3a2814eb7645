// The clock of a theatre and what stands at it: no elements in here.
//
// Every scoreboard is the server's: `moment` has the whole of one, and each of the `steps` that follow it has the lines
// that are others after it. A seek asks for a moment; playing takes steps as their time comes, fetched ahead.

const FEED = 60;
const AHEAD = 240;
const LOW = 100;
const LIVE_MS = 1000;
const AGAIN_MS = 700;
/** A match that is being played is shown so far behind what is known of it, so that its clock runs smoothly. */
export const BEHIND_MS = 3000;
export const SPEEDS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64];

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Playback {
  #ask;
  #over;
  #steps = [];
  #next = 1;
  #more = true;
  #filling = false;
  #filledAt = -Infinity;
  #wanted = null;
  #turn = 0;
  #samples = [];

  /** `ask(what, parameters)` -> answer of the server; `over(head)` is called when a live match has ended. */
  constructor(ask, over) {
    this.#ask = ask;
    this.#over = over;
    this.ms = 0;
    this.playing = false;
    this.speed = 1;
    this.live = false;
    this.following = false; // at the newest moment of a live match, and staying there
    this.edge = 0;
    this.seeking = false;
    this.failed = "";
    this.board = new Map();
    this.playerCount = 0;
    this.scores = [];
    this.rounds = [];
    this.phase = "";
    this.gap = null;
    this.feed = [];
    this.version = 0; // rises with everything but the clock
  }

  /** Take in how far the match is: from any answer. */
  heard(head) {
    const now = performance.now();
    this.edge = Math.max(head.edge_ms, 0);
    if (head.events >= this.#next) this.#more = true; // there are steps that are not here yet
    this.#samples.push([now, this.edge]);
    while (this.#samples.length > 2 && this.#samples[1][0] < now - 3 * BEHIND_MS) this.#samples.shift();
    const ended = this.live && !head.live;
    this.live = head.live;
    if (ended) {
      this.version += 1;
      this.#over(head);
    }
  }

  /** Go to a time of the match; of several asked for in a row the last one counts. */
  async seek(ms, { follow = false } = {}) {
    this.ms = Math.min(Math.max(0, ms), this.edge);
    this.following = follow && this.live;
    this.#wanted = this.ms;
    this.#turn += 1;
    if (this.seeking) return;
    this.seeking = true;
    while (this.#wanted !== null) {
      const wanted = this.#wanted;
      this.#wanted = null;
      try {
        const moment = await this.#ask("moment", { ms: Math.round(wanted) });
        if (this.#wanted !== null) continue;
        const page = await this.#ask("steps", { seq: Math.max(1, moment.next_seq - FEED), limit: FEED + AHEAD });
        if (this.#wanted !== null) continue;
        this.#stand(moment, page);
        this.failed = "";
      } catch (error) {
        this.failed = error.message;
        if (error.status && error.status < 500) break;
        await pause(AGAIN_MS);
        this.#wanted ??= wanted;
      }
    }
    this.seeking = false;
    this.version += 1;
  }

  #stand(moment, page) {
    this.board = new Map(moment.board.map((line) => [line[0], line]));
    this.playerCount = moment.player_count;
    this.scores = moment.team_scores;
    this.rounds = moment.rounds_won;
    this.phase = moment.phase_then;
    this.gap = moment.gap;
    this.feed = [];
    for (const step of page.steps) if (step.seq < moment.next_seq) this.#tell(step);
    this.#steps = page.steps.filter((step) => step.seq >= moment.next_seq);
    this.#next = page.next_seq;
    this.#more = page.more;
    this.heard(page);
    this.#filledAt = performance.now();
    this.version += 1;
  }

  /** Whether there is anything left to play. */
  get atEnd() {
    return !this.live && !this.#more && this.#steps.length === 0 && this.ms >= this.edge;
  }

  /** Move on by `ms` of real time. */
  tick(ms) {
    if (this.seeking) return;
    if (this.playing) {
      const to = this.following ? Math.max(this.ms, this.#liveClock()) : this.ms + ms * this.speed;
      const known = this.#more && this.#steps.length ? this.#steps.at(-1).time_ms : this.edge;
      this.ms = this.#more && this.#steps.length === 0 ? this.ms : Math.min(to, Math.max(known, this.ms));
      if (this.live && this.ms >= this.edge) this.following = true;
    }
    this.#apply();
    if (this.playing && this.atEnd) {
      this.playing = this.following = false;
      this.version += 1;
    }
    const due = performance.now() - this.#filledAt > LIVE_MS;
    if ((this.#more && this.#steps.length < LOW) || (this.live && due)) this.#fill();
  }

  #apply() {
    let count = 0;
    while (count < this.#steps.length && this.#steps[count].time_ms <= this.ms) this.#take(this.#steps[count++]);
    if (count) {
      this.#steps.splice(0, count);
      this.version += 1;
    }
  }

  #take(step) {
    for (const line of step.lines ?? []) {
      if (!this.board.has(line[0])) this.playerCount = Math.max(this.playerCount, this.board.size + 1);
      this.board.set(line[0], line);
    }
    if (step.team_scores) this.scores = step.team_scores;
    if (step.phase) this.phase = step.phase;
    this.gap = null;
    this.#tell(step);
  }

  #tell(step) {
    (step.happened ?? []).forEach((row, place) => {
      if (row.what === "death" && this.feed.slice(0, 4).some((kill) => kill.victim === row.player && kill.time_ms === row.time_ms)) return; // told with the kill
      this.feed.unshift({ ...row, id: `${step.seq}.${place}` });
    });
    this.feed.length = Math.min(this.feed.length, FEED);
  }

  async #fill() {
    if (this.#filling) return;
    this.#filling = true;
    const turn = this.#turn;
    try {
      const page = await this.#ask("steps", { seq: this.#next, limit: AHEAD });
      if (turn === this.#turn) {
        this.#steps.push(...page.steps);
        this.#next = page.next_seq;
        this.#more = page.more;
        this.heard(page);
        this.failed = "";
      }
    } catch (error) {
      this.failed = error.message;
      await pause(AGAIN_MS);
    } finally {
      this.#filledAt = performance.now();
      this.#filling = false;
    }
  }

  /** The clock of the match `BEHIND_MS` ago, between the answers that told of it. */
  #liveClock() {
    const then = performance.now() - BEHIND_MS;
    for (let place = this.#samples.length - 1; place > 0; place -= 1) {
      const [[from, low], [to, high]] = [this.#samples[place - 1], this.#samples[place]];
      if (from <= then) return then >= to ? high : low + ((high - low) * (then - from)) / Math.max(1, to - from);
    }
    return this.#samples[0]?.[1] ?? 0;
  }
}
