// Which page is shown, and what a page is given.
//
// A page is an object {id, title, order, styles, render(root, garrison, path)}. The engine's own
// are listed in main.js; an application's are the default exports of the ES modules at the top
// of its folder of pages. `path` is what follows the page's id in the address, as a list.
// `garrison` is {store, client, poll, query(name, parameters), get(path, parameters), act(name, body),
// href(...path), readdress(address), dom, format}: `query` asks a read model, `get` a console route, `act` runs an
// action, `readdress` puts what the page shows now into its address. What `poll` starts ends when another page is shown.
//
// Every address is relative to that of the page, which may be below a path of somebody else's host.

import * as dom from "./dom.js";
import * as format from "./format.js";

const here = (path) => new URL(path, new URL(".", location.href)).href;

/** Repeated work of the page that is shown. */
class Poll {
  constructor(store) {
    this.ended = false;
    this.store = store;
  }

  #asked = 0;
  #sleepers = new Set();

  /** Call `work` now and `ms` after each end of it; a failure waits for the next time. */
  async every(ms, work) {
    while (!this.ended) {
      const asked = this.#asked;
      try {
        await work();
      } catch (error) {
        if (error instanceof TypeError) console.error(error);
      }
      if (asked === this.#asked) await this.#sleep(document.hidden ? 4 * ms : ms);
    }
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#sleepers.add(wake);
    });
  }

  /** Do all of the repeated work at once, and once more what is being done just now: it was asked before. */
  now() {
    this.#asked += 1;
    for (const wake of [...this.#sleepers]) wake();
  }

  /** Call `work` now and after every answer of the cluster. */
  onChange(work) {
    const listener = () => (this.ended ? this.store.removeEventListener("change", listener) : work());
    this.store.addEventListener("change", listener);
    work();
  }
}

export class Pages {
  #pages = [];
  #poll = null;
  #address = ""; // of the page that is shown
  #loaded = false;

  constructor(view, nav, store, client) {
    this.view = view;
    this.nav = nav;
    this.store = store;
    this.client = client;
    addEventListener("hashchange", () => this.show());
  }

  /** Add a page to the navigation. */
  register(page) {
    this.#pages.push(page);
    this.#pages.sort((a, b) => (a.order ?? 50) - (b.order ?? 50));
    if (page.styles) document.head.append(dom.el("link", { rel: "stylesheet", href: here(`app/${page.styles}`) }));
  }

  /** Register the pages about the cluster, where there is one, and fetch and register the application's. Returns the
   * messages of those that failed. */
  async load(ofCluster) {
    const failed = [];
    const { modules, cluster } = await (await fetch(here("pages.json"))).json();
    if (cluster) for (const page of ofCluster) this.register(page);
    for (const name of modules) {
      try {
        this.register((await import(here(`app/${name}`))).default);
      } catch (error) {
        failed.push(`${name}: ${error.message}`);
      }
    }
    this.#loaded = true;
    return failed;
  }

  /** Show what the address names; the first page if it names none. Nothing before all pages are there: a page that was
   * rendered then would be rendered again, without what has been typed and chosen meanwhile. */
  show() {
    if (!this.#loaded) return;
    const [id, ...path] = location.hash.replace(/^#\/?/, "").split("/").map(format.decoded);
    const page = this.#pages.find((one) => one.id === id) ?? this.#pages[0];
    if (this.#poll !== null) this.#poll.ended = true;
    this.#poll?.now();
    this.#poll = new Poll(this.store);
    this.#address = location.hash;
    dom.syncChildren(
      this.nav,
      this.#pages,
      (one) => one.id,
      (one) => dom.el("a", { href: `#/${one.id}` }, one.title),
      (link, one) => dom.setAttribute(link, "aria-current", one === page ? "page" : null),
    );
    const current = this.nav.querySelector("[aria-current]"); // on a phone the row of pages scrolls
    this.nav.scrollLeft = current.offsetLeft - this.nav.offsetLeft - (this.nav.clientWidth - current.offsetWidth) / 2;
    document.title = `${page.title} · Garrison`;
    this.view.replaceChildren();
    page.render(this.view, this.#given(page), path.filter(Boolean));
  }

  /** Note `address` as that of the page whose poll this is. Not where a person has gone on: the browser tells of that
   * a moment later than it changes the address, which would be lost. */
  #readdress(poll, address) {
    if (poll.ended || location.hash !== this.#address) return;
    history.replaceState(null, "", address);
    this.#address = location.hash;
  }

  #given(page) {
    const poll = this.#poll;
    return {
      store: this.store,
      client: this.client,
      poll,
      query: (name, parameters) => this.client.get(`query/${encodeURIComponent(name)}`, parameters),
      get: (path, parameters) => this.client.get(path, parameters),
      act: (name, body) => this.client.post(`actions/${encodeURIComponent(name)}`, body),
      href: (...path) => `#/${[page.id, ...path].map(encodeURIComponent).join("/")}`,
      readdress: (address) => this.#readdress(poll, address),
      dom,
      format,
    };
  }
}
