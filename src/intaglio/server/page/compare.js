// The comparison: one prompt to two models, their sizes, speeds and answers side by side.

import { Composer } from "./composer.js";
import { $, say } from "./dom.js";
import { count, percent, times } from "./format.js";
import { compared } from "./marks.js";
import { picker } from "./models.js";
import { NAMES, Pane } from "./pane.js";

const ALIKE = 1.05; // ratios below are no difference worth words
const ALONE = "Only one model is served. To compare two: intaglio serve MODEL_A MODEL_B";

export class Compare {
  panes = [new Pane("First model"), new Pane("Second model")];
  #models;
  #settings;
  #composer;
  #controller = null;

  constructor(models, settings, changed) {
    this.#models = models;
    this.#settings = settings;
    this.#composer = new Composer($("#compare-composer"), models, (text) => this.#run(text), () => this.stop());
    $("#panes").append(...this.panes.map(({ node }) => node));
    $("#mark").onchange = () => this.#conclude();
    this.panes.forEach(({ select }, i) => picker(select, models, `compare.${i}`, i, () => this.#picked(changed)));
  }

  focus() {
    this.#composer.area.focus();
  }

  stop() {
    this.#controller?.abort();
  }

  // The answer of a model that is no longer picked goes.
  #picked(changed) {
    for (const pane of this.panes) {
      const model = this.#models.find(pane.select.value);
      if (pane.model?.id !== model?.id) pane.clear();
      pane.model = model;
    }
    this.#figures();
    this.#conclude();
    changed();
  }

  #figures() {
    for (const name of NAMES) {
      const most = Math.max(...this.panes.map((pane) => pane.figure(name)));
      for (const pane of this.panes) pane.write(name, most);
    }
  }

  async #run(text) {
    this.#controller = new AbortController();
    const ask = (pane) => this.#ask(pane, text, this.#controller.signal);
    this.#busy(true);
    if ($("#in-turn").checked) for (const pane of this.panes) await ask(pane);
    else await Promise.all(this.panes.map(ask));
    this.#controller = null;
    this.#busy(false);
    say($("#verdict").textContent);
  }

  #ask(pane, content, signal) {
    if (signal.aborted) return pane.clear("Not asked");
    const request = this.#settings.request(pane.model.id, [{ role: "user", content }]);
    if ($("#greedy").checked) request.temperature = 0;
    return pane.reply.stream(request, signal, () => this.#figures());
  }

  #busy(busy) {
    this.#composer.busy = busy;
    for (const pane of this.panes) {
      pane.select.disabled = busy;
      if (busy) pane.clear("Its turn comes");
    }
    this.#figures();
    this.#conclude();
  }

  // What can be said of the two, and the marks, once both have answered.
  #conclude() {
    const [a, b] = this.panes;
    const parts = [this.#models.list.length === 1 ? ALONE : standing(a, b)];
    if (!this.#controller && this.panes.every((pane) => pane.reply.record.content)) {
      for (const pane of this.panes) pane.plain();
      parts.push(agreement(compared(a.reply.text, b.reply.text, $("#mark").checked)));
    }
    $("#verdict").textContent = parts.join(" ");
  }
}

// Which is smaller and which is faster, as one sentence.
function standing(a, b) {
  const found = [ahead(a, b, "size", "smaller", -1), ahead(a, b, "rate", "faster", 1)].filter(Boolean);
  if (found.length === 2 && found[0].winner === found[1].winner) {
    found.splice(0, 2, { ...found[0], how: `${found[0].how} and ${found[1].how}` });
  }
  return found.map(({ winner, loser, how }) => `${winner} is ${how} than ${loser}.`).join(" ");
}

function ahead(a, b, name, word, sign) {
  const [first, second] = [a.figure(name), b.figure(name)];
  if (!first || !second || a.model.id === b.model.id) return null;
  const by = Math.max(first / second, second / first);
  const [winner, loser] = (first - second) * sign > 0 ? [a, b] : [b, a];
  return by < ALIKE ? null : { winner: winner.model.id, loser: loser.model.id, how: `${times(by)} ${word}` };
}

function agreement({ head, share, identical }) {
  if (identical) return "The answers are the same, word for word.";
  if (!head) return `The answers share ${percent(share)} of their words.`;
  return `The answers begin with the same ${count(head, "word")} and share ${percent(share)} of all words.`;
}
