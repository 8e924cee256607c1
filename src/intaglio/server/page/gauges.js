// Live gauges: what the server does, asked each second while the page is seen.

import { get } from "./api.js";
import { $, el } from "./dom.js";
import { Figure, figures } from "./figure.js";
import { number, percent } from "./format.js";

const SECOND = 1000;
const PATIENCE = 5 * SECOND; // for an answer, and before asking again after none

export class Gauges {
  #place = $("#gauges");
  #shown;
  #back;
  #gauges = new Map();
  #away = false;

  /** `shown()`: ids of the models in view. `back`: the server was gone and answers again. */
  constructor(shown, back) {
    this.#shown = shown;
    this.#back = back;
  }

  async run() {
    for (;;) {
      await visible();
      await sleep(await this.#poll());
    }
  }

  /** Only gauges of models in view are seen. */
  arrange() {
    const ids = this.#shown();
    for (const [id, gauge] of this.#gauges) gauge.node.hidden = !ids.includes(id);
    this.#place.classList.toggle("several", new Set(ids).size > 1);
  }

  async #poll() {
    try {
      const { models } = await get("stats", { ask: false, signal: AbortSignal.timeout(PATIENCE) });
      this.#show(models);
      return SECOND;
    } catch (error) {
      this.#fail(error);
      return PATIENCE;
    }
  }

  #show(models) {
    for (const stats of models) this.#gauge(stats.id).show(stats);
    this.#place.hidden = false;
    this.#place.classList.remove("stale");
    this.arrange();
    if (this.#away) this.#back();
    this.#away = false;
  }

  // Old figures stay to be seen, but faint; a server that never gave any has no gauges.
  #fail(error) {
    this.#away ||= !error.status;
    this.#place.classList.add("stale");
  }

  #gauge(id) {
    if (!this.#gauges.has(id)) {
      this.#gauges.set(id, new Gauge(id));
      this.#place.append(this.#gauges.get(id).node);
    }
    return this.#gauges.get(id);
  }
}

class Gauge {
  #figures = ["Running", "Waiting", "KV use", "Tokens/s"].map((name) => new Figure(name));

  constructor(id) {
    this.node = el("div", { className: "gauge" }, el("h2", {}, id), figures(this.#figures));
  }

  show({ running, waiting, kv_cache_usage: cache, tokens_per_second: speed }) {
    const shown = [[running], [waiting], [percent(cache), cache], [number(speed)]];
    this.#figures.forEach((figure, i) => figure.show(...shown[i]));
  }
}

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}
